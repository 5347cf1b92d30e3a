"""The documentation's site: the repository's own Markdown, the commands' help, and the docstrings of every room.

The Markdown is laid out as it lies in the repository, so that one link serves both places.
"""

from __future__ import annotations

import argparse
import logging
import pkgutil
import shutil
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from ..cli import VERBS
from ..common.console import PROGRAM
from ..common.errors import InputError

PACKAGE = Path(__file__).parents[1]

NAME = PACKAGE.name

ROOT = PACKAGE.parent

COPIED = ("examples/*.py", "examples/*.md", "examples/*.png", f"{NAME}/*.md", f"{NAME}/*/*.md", f"{NAME}/*/recipes/*")

GUIDES = ("networks", "training", "data", "weights", "explanations", "export")  # the order to read them in

ROOMS = {
    "spec": "The tables: rows, networks, walks that count without Keras",
    "data": "Pictures in: decoding, preprocessing, the pipeline, packing",
    "weights": "Checkpoints: the registry, loading, conversion, inspection",
    "training": "Runs: settings, recipes, the loop, fine-tuning, several workers",
    "evaluation": "Reports, calibration, crops, verification, explanations",
    "inference": "Predictions, runtimes, folding",
    "export": "SavedModel, ONNX, OpenVINO, LiteRT",
    "diagrams": "Pictures of networks",
}

LOOSE = ("factories", "build", "features", "saving", "errors", "arguments")  # modules beside the rooms

STYLE = "style.css"

MARKER = ".inception_resnet_keras_docs"  # in a site that was built here: MkDocs empties the folder that it builds into

CSS = """\
.md-grid { max-width: 84rem; }
.md-typeset pre > code { font-size: 0.7rem; }
.md-typeset h1, .md-typeset h2 { font-weight: 500; letter-spacing: 0; }
.md-typeset table:not([class]) :is(th, td) { padding: 0.5em 0.8em; }
.md-typeset h1 { color: var(--md-default-fg-color); }
"""


def build(out: Path) -> Path:
    """Builds the site into a folder that is new, empty, or holds a site that was built here; returns it.

    Raises InputError where this is no clone, mkdocs is not installed, or `out` is a file or holds something else.
    """
    try:
        from mkdocs.commands.build import build as mkdocs_build
        from mkdocs.config import load_config
        from mkdocs.exceptions import Abort
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed; the site is built with it: pip install 'inception-resnet-keras[docs]'"
        ) from None
    if not (ROOT / "README.md").is_file() or not (ROOT / "examples").is_dir():
        raise InputError(f"{ROOT}: is no clone of the repository: the site is built from its README.md and examples/")
    refuse_others(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()  # it is hidden: MkDocs leaves it there
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        source = Path(folder)
        _gather(source)
        settings = source / "mkdocs.yml"
        settings.write_text(f"site_name: {NAME}\n", encoding="utf-8")  # the rest is given below: it is data, not text
        config = load_config(str(settings), **_settings(source / "pages", out.resolve()))
        faults = _Faults()
        logging.getLogger("mkdocs").addHandler(faults)
        try:
            config.plugins.on_startup(command="build", dirty=False)
            mkdocs_build(config)
        except Abort:
            raise InputError("\n".join(["the site has dead links or other faults:", *faults.messages])) from None
        finally:
            config.plugins.on_shutdown()
            logging.getLogger("mkdocs").removeHandler(faults)
    return out


def refuse_others(out: Path) -> None:
    """What is to be emptied must be ours: the marker tells, not what any site has."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; give a new folder, or an empty one")
    if out.exists() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise InputError(f"{out}: holds something other than a site that was built here; give a new folder")


class _Faults(logging.Handler):
    """Keeps what MkDocs warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _settings(pages: Path, out: Path) -> dict[str, Any]:
    handler = {
        "docstring_style": "google",
        "docstring_section_style": "list",
        # One line may tell of several parameters, and types stand in the signature.
        "docstring_options": {"warn_unknown_params": False, "warn_missing_types": False},
        "filters": ["!^_"],
        "heading_level": 2,
        "members_order": "source",
        "show_root_heading": True,
        "show_root_full_path": True,
        "show_source": False,
        "show_symbol_type_heading": True,
        "show_symbol_type_toc": True,
        "separate_signature": True,
        "show_signature_annotations": True,
        "merge_init_into_class": True,
        "show_if_no_docstring": False,
        "extensions": [f"{__package__}.docstrings:FieldLists"],
    }
    return {
        "docs_dir": str(pages),
        "site_dir": str(out),
        "site_url": "",
        "use_directory_urls": False,  # so that the files open without a server
        "strict": True,
        "theme": {
            "name": "material",
            "font": False,  # the reader's own: nothing is fetched
            "features": ["navigation.sections", "navigation.top", "toc.follow", "content.code.copy"],
            "palette": [
                {"media": "(prefers-color-scheme: light)", "scheme": "default", "primary": "indigo"},
                {"media": "(prefers-color-scheme: dark)", "scheme": "slate", "primary": "indigo"},
            ],
        },
        "extra_css": [STYLE],
        "plugins": [
            "search",
            {"mkdocstrings": {"handlers": {"python": {"paths": [str(ROOT)], "options": handler}}}},
        ],
        "markdown_extensions": ["tables", "admonition", "pymdownx.superfences", "pymdownx.highlight"],
        "validation": {"links": {"anchors": "warn", "absolute_links": "warn"}},
        "nav": _navigation(pages),
    }


def _navigation(pages: Path) -> list[Any]:
    guides = [f"{NAME}/guides/{guide}.md" for guide in GUIDES]
    others = [str(path.relative_to(pages)) for path in sorted((pages / NAME).rglob("*.md"))]
    return [
        {"Start": "README.md"},
        {"Guides": [*guides, *(page for page in others if page not in guides), "recipes.md"]},
        {"Examples": "examples/README.md"},
        {"Commands": "commands.md"},
        {"Python": ["api/index.md", *(f"api/{room}.md" for room in (*LOOSE, *ROOMS))]},
    ]


def _gather(source: Path) -> None:
    """Every page and what it links to, under `source`/pages."""
    pages = source / "pages"
    for pattern in ("README.md", *COPIED):
        for path in sorted(ROOT.glob(pattern)):
            target = pages / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    shutil.copytree(ROOT / "architecture_plots", pages / "architecture_plots")
    (pages / STYLE).write_text(CSS, encoding="utf-8")
    (pages / "commands.md").write_text(_commands(), encoding="utf-8")
    (pages / "recipes.md").write_text(_recipes(), encoding="utf-8")
    (pages / "api").mkdir()
    for name, text in _reference():
        (pages / "api" / f"{name}.md").write_text(text, encoding="utf-8")


def _commands() -> str:
    """Every verb's `--help`."""
    parts = ["# Commands", f"`{PROGRAM} VERB --help` says the same."]
    for verb in VERBS:
        module = import_module(f"..cli.{verb}", __package__)
        parser = argparse.ArgumentParser(f"{PROGRAM} {verb}", description=module.__doc__)
        parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=100)
        module.add_arguments(parser)
        parts += [f"## {verb}", f"```text\n{parser.format_help().rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _recipes() -> str:
    """Every recipe as it is written."""
    parts = ["# Recipes", f"`{PROGRAM} train --recipe NAME`, or a file of your own in this form."]
    for path in sorted((PACKAGE / "training" / "recipes").glob("*.toml")):
        parts += [f"## {path.stem}", f"```toml\n{path.read_text(encoding='utf-8').rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _reference() -> Iterator[tuple[str, str]]:
    """A page a room: its name, and Markdown that names the modules whose docstrings are to be set."""
    package = import_module(NAME)
    table = ["| name | |", "| --- | --- |"]
    for name in package.__all__:
        public = getattr(package, name)
        home = public.__module__.removeprefix(f"{NAME}.")
        page = home.partition(".")[0]
        says = (public.__doc__ or "").strip().splitlines()[0]
        table.append(f"| [`{name}`]({page}.md#{NAME}.{home}.{name}) | {says} |")
    rooms = [f"- [{room}]({room}.md): {what[0].lower()}{what[1:]}" for room, what in ROOMS.items()]
    head = f"# Python\n\nWhat `from {NAME} import …` gives; nothing heavy is imported before it is used."
    yield "index", "\n".join([head, "", *table, "", "Room by room:", "", *rooms, ""])
    for name in LOOSE:
        yield name, f"# {name}\n\n::: {NAME}.{name}\n"
    for room, what in ROOMS.items():
        found = sorted(
            info.name
            for info in pkgutil.walk_packages([str(PACKAGE / room)], f"{NAME}.{room}.")
            if not info.name.rpartition(".")[2].startswith("_")
        )
        yield (
            room,
            f"# {room}\n\n{what}.\n\n" + "\n\n".join(f"::: {name}" for name in (f"{NAME}.{room}", *found)) + "\n",
        )
