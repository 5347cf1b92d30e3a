"""A real headless Chromium, and what its network log says."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

HOW = "the explorer's tests need Chromium: apt-get install chromium chromium-driver"


def required() -> tuple[str, str]:
    """The browser and its driver. Without them CI fails; elsewhere the test is skipped, and says what to install."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    if os.environ.get("CI"):
        pytest.fail(HOW)
    pytest.skip(HOW)


@contextmanager
def opened(page: Path, profile: Path, *, width: int = 1400, height: int = 900, dark: bool = False) -> Iterator[Any]:
    """The page in a window of that size; profile: an empty folder."""
    browser, driver = required()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver))
    try:
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
        visit(window, page.as_uri())
        yield window
    finally:
        window.quit()


def visit(window: Any, address: str) -> None:
    """Open a page, and wait until it is complete."""
    window.get(address)
    wait_until_complete(window)


def wait_until_complete(window: Any) -> None:
    """On a busy machine, `get` and `refresh` return while a file is still being parsed."""
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(window, 120).until(lambda _: window.execute_script("return document.readyState") == "complete")


def requests(window: Any) -> list[str]:
    """Every address that the page has asked for since it was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in window.get_log("performance")]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]
