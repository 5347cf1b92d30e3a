"""What the documentation says, done: code that runs, commands that parse, links that lead somewhere."""

import argparse
import base64
import doctest
import importlib
import importlib.util
import inspect
import json
import math
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import numpy as np
import pytest

import inception_resnet_keras
from inception_resnet_keras import networks
from inception_resnet_keras.cli import VERBS, main
from inception_resnet_keras.common import bars
from inception_resnet_keras.common.console import PROGRAM
from inception_resnet_keras.diagrams.api import EXPLORER
from inception_resnet_keras.diagrams.from_table import graph_of
from inception_resnet_keras.diagrams.graph import network_title, shape_text
from inception_resnet_keras.models.model_file import save_model
from inception_resnet_keras.networks.rows import Fork, Network, Residual
from inception_resnet_keras.weights import labels

from .diagrams.browser import opened, requests, visit
from .evaluation.faces import write_faces, write_pairs
from .evaluation.models import write_model
from .exporting import CARD, lively, write_pictures
from .tiny import TINY

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "inception_resnet_keras" / "guides"
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("examples/*.md")), *sorted(GUIDES.glob("*.md"))]
NOT_RUN = "# not run: "
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """(where, text) of every block of code in a language."""
    for page in PAGES:
        for number, text in enumerate(re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S), 1):
            yield f"{page.relative_to(ROOT)}:{number}", text


def runnable() -> list[tuple[str, str]]:
    """Blocks that import what they use; the others show calls with a file's or a folder's name in them."""
    return [(where, text) for where, text in blocks("python") if "import " in text and not text.startswith(NOT_RUN)]


@pytest.mark.slow
@pytest.mark.parametrize(("where", "text"), runnable(), ids=[where for where, _ in runnable()])
def test_python_in_markdown_runs(where: str, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # for the files that it writes
    if where.startswith("README.md"):  # trains a whole network for minutes: here the tiny one's table
        monkeypatch.setitem(networks.NETWORKS, "inception_resnet_v1", {"paper": TINY})
    exec(compile(text, where, "exec"), {})


def test_pages_have_python_that_runs_and_python_that_is_not_run_compiles() -> None:
    assert "README.md:1" in dict(runnable())
    assert len(runnable()) >= 4
    for where, text in blocks("python"):
        compile(text, where, "exec")


def commands() -> list[tuple[str, str]]:
    lines = ((where, line) for where, text in blocks("sh") for line in text.replace("\\\n", " ").splitlines())
    return [(where, line) for where, line in lines if re.search(rf"\b{PROGRAM} ({'|'.join(VERBS)})\b", line)]


@pytest.mark.parametrize(("where", "line"), commands())
def test_every_command_in_markdown_is_one_that_there_is(where: str, line: str) -> None:
    words = shlex.split(line.partition("; then WHAT")[0].replace("$WHAT", ""), comments=True)
    verb, *arguments = words[words.index(PROGRAM) + 1 :]
    parser = argparse.ArgumentParser(where, exit_on_error=False)
    importlib.import_module(f"inception_resnet_keras.cli.{verb}").add_arguments(parser)
    parser.parse_args(arguments)


def commands_in_text() -> list[tuple[str, str]]:
    """Such as the commands that make a figure: those between backticks, with nothing left out."""
    found: dict[str, str] = {}
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        lines = re.findall(rf"`((?:{PROGRAM}|python -m|pytest) [^`…]+)`", text)
        found |= {" ".join(line.split()): str(page.relative_to(ROOT)) for line in lines}
    return [(where, line) for line, where in found.items()]


@pytest.mark.parametrize(("where", "line"), commands_in_text())
def test_every_command_in_a_sentence_or_a_table_is_one_that_there_is(where: str, line: str) -> None:
    first, *words = shlex.split(line)
    if first == PROGRAM:
        verb, *arguments = words
        parser = argparse.ArgumentParser(where, exit_on_error=False)
        importlib.import_module(f"inception_resnet_keras.cli.{verb}").add_arguments(parser)
        known = {option for action in parser._actions for option in action.option_strings}
        assert known >= {word.partition("=")[0] for word in arguments if word.startswith("--")}
    elif first == "python":
        module = words[1]
        source = importlib.util.find_spec(module)
        assert source is not None, module
        assert source.origin is not None
        text = Path(source.origin).read_text()
        assert module in sys.stdlib_module_names or "__main__" in text or source.submodule_search_locations
        assert [word for word in words[2:] if word.startswith("--") and word not in text] == []
    else:
        paths = [ROOT / word for word in words if word.startswith("tests")]
        assert all(path.exists() for path in paths), line
        if "-k" in words:
            wanted = words[words.index("-k") + 1]
            files = [
                file
                for path in paths or [ROOT / "tests"]
                for file in ([path] if path.is_file() else path.rglob("*.py"))
            ]
            assert any(re.search(rf"def test_\w*{wanted}", file.read_text()) for file in files), line


def test_commands_in_sentences_are_found() -> None:
    lines = [line for _, line in commands_in_text()]
    assert len(lines) >= 10
    for start in (f"{PROGRAM} train", "python -m tests.speed", "pytest"):
        assert any(line.startswith(start) for line in lines), start


def test_every_measurement_has_its_command_and_its_date() -> None:
    _, *sections = re.split(r"^## ", (GUIDES / "measurements.md").read_text(encoding="utf-8"), flags=re.M)
    assert len(sections) >= 10
    for section in sections:
        title = section.splitlines()[0]
        assert re.search(rf"^(?:{PROGRAM}|python) |`(?:{PROGRAM}|python -m|pytest) ", section, re.M), title
        assert re.search(r"\b20\d\d-\d\d-\d\d\b", section), title
        for table in re.findall(r"(?:^\|.*\n)+", section, re.M):
            head, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
            for name in {"command", "machine, date"} & set(head):
                assert all(row[head.index(name)] for row in rows), (title, name)


def block_of(page: str, holding: str) -> str:
    return next(text for where, text in blocks("sh") if where.startswith(page) and holding in text)


def test_the_guides_lines_make_the_folder_that_tensorflow_serving_wants(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, export, docker = block_of("inception_resnet_keras/guides/serving.md", "docker run").splitlines()
    subprocess.run(before, shell=True, check=True)
    assert main([str(run) if word == "RUN" else word for word in shlex.split(export)[1:]]) == 0
    mounted = docker.partition('-v "$PWD/')[2].partition(":")[0]
    assert (tmp_path / mounted / "1" / "saved_model.pb").is_file()


def test_the_guides_request_carries_a_picture_of_any_size(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).bytes(1_000_000)
    (tmp_path / "IMAGE").write_bytes(picture)
    made, curl, _ = block_of("inception_resnet_keras/guides/serving.md", "signature_name").partition("curl -s -d @- ")
    assert curl
    sent = subprocess.run(made + "cat", shell=True, cwd=tmp_path, check=True, capture_output=True).stdout
    body = json.loads(sent)
    assert body["signature_name"] == "encoded"
    assert base64.b64decode(body["instances"][0]["b64"], validate=True) == picture


def modules() -> list[str]:
    found = pkgutil.walk_packages(inception_resnet_keras.__path__, "inception_resnet_keras.")
    return [info.name for info in found if ">>>" in Path(info.module_finder.path, *_file(info)).read_text()]  # type: ignore[union-attr]


def _file(info: pkgutil.ModuleInfo) -> tuple[str, ...]:
    name = info.name.rpartition(".")[2]
    return (name, "__init__.py") if info.ispkg else (f"{name}.py",)


@pytest.fixture
def class_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ImageNet's class index in Keras's cache, without a download: of its names only those of the examples."""
    names = {281: ["n02123045", "tabby"], 282: ["n02123159", "tiger_cat"]}
    entries = {str(number): names.get(number, [f"n{number:08d}", f"class_{number}"]) for number in range(1000)}
    (tmp_path / labels.FOLDER).mkdir()
    (tmp_path / labels.FOLDER / "imagenet_class_index.json").write_text(json.dumps(entries))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(labels, "DIGEST", None)
    labels.class_index.cache_clear()
    yield
    labels.class_index.cache_clear()


@pytest.fixture(scope="module")
def named_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that examples in docstrings name: photos/ with three classes, two runs, and faces with their pairs."""
    folder = tmp_path_factory.mktemp("examples")
    card = replace(CARD, classes=["daisy", "rose", "tulip"])
    write_pictures(folder / "photos", card=card)
    for run in ("photos-1", "photos-2"):
        (folder / "runs" / run).mkdir(parents=True)
    save_model(lively(), folder / "runs" / "photos-1" / "model.keras", card)
    write_model(folder / "runs" / "photos-2" / "model.keras", card.classes)
    write_pairs(write_faces(folder / "lfw" / "faces").parent / "pairs.txt")
    return folder


@pytest.mark.usefixtures("class_index")
def test_examples_in_docstrings_run(named_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(named_files)
    monkeypatch.setattr(bars, "PLAIN_LINE_EVERY", math.inf)  # on a busy machine, progress would be part of the output
    tried = 0
    for name in modules():
        if name.endswith(".hub") and importlib.util.find_spec("keras_hub") is None:
            continue
        result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
        assert not result.failed, name
        tried += result.attempted
    assert tried >= 8


# Their examples train, so that the slow tests run them: tests/training/test_docstring_examples.py.
TRAINING = {"train", "finetune", "find_learning_rate"}


@pytest.mark.parametrize("name", vars(inception_resnet_keras)["__all__"])
def test_a_public_name_has_every_section_an_example_that_runs_and_a_readable_signature(name: str) -> None:
    public = getattr(inception_resnet_keras, name)
    text = inspect.getdoc(public) or ""
    for section in ("Args:", "Returns:", "Raises:", "Examples:\n" + (name not in TRAINING) * "    >>> "):
        assert f"\n\n{section}" in text
    if name in TRAINING:
        assert "```python" in text
    if "`create_inception_v4` documents the arguments" in text:
        text += inspect.getdoc(inception_resnet_keras.create_inception_v4) or ""
    for parameter in inspect.signature(public).parameters.values():
        assert re.search(rf"^    {parameter.name}: ", text, re.M)
        assert " at 0x" not in repr(parameter.default)


def test_every_page_of_the_package_is_a_guide_and_guides_has_nothing_else() -> None:
    assert sorted(ROOT.glob("inception_resnet_keras/**/*.md")) == sorted(GUIDES.iterdir())


@pytest.mark.parametrize("page", sorted(GUIDES.glob("*.md")), ids=lambda page: page.stem)
def test_a_guide_opens_with_its_purpose_and_a_command_or_python(page: Path) -> None:
    opening, *_ = page.read_text(encoding="utf-8").split("\n## ")
    title, purpose, *_ = opening.split("\n\n")
    assert re.fullmatch(r"# \S.*", title)
    assert re.match(r"[A-Z].*[.:]$", purpose, re.S)
    assert len(re.findall(r"[.:](?=\s|$)", purpose)) <= 3
    assert re.search(r"^```(sh|python)\n", opening, re.M)


def test_the_pages_of_commands_and_recipes_are_complete() -> None:
    commands = (GUIDES / "commands.md").read_text(encoding="utf-8")
    assert re.findall(rf"^{PROGRAM} (\w+) --help$", commands, re.M) == list(VERBS)
    recipes = (GUIDES / "recipes.md").read_text(encoding="utf-8")
    included = {ROOT / path for path in re.findall(r'^--8<-- "(.*)"$', recipes, re.M)}
    assert included == set((ROOT / "inception_resnet_keras").glob("*/recipes/*.toml"))


class Page(HTMLParser):
    """The links, the anchors, the notes and the text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.notes: list[str] = []
        self._text: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join("".join(self._text).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)
            elif name == "class" and value and (tag == "details" or value.startswith("admonition")):
                self.notes.append(value)

    def handle_data(self, data: str) -> None:
        self._text.append(data)


parsed = cache(Page)  # the site has some two hundred pages, and some tests read all


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built by the README's command, but elsewhere; a warning ends the build."""
    [command] = re.findall(r"`uv run [^`]*(mkdocs build [^`]*)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    folder = tmp_path_factory.mktemp("docs")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # has the package's own command
    result = subprocess.run(
        [sys.executable, "-m", *shlex.split(command), "--site-dir", str(folder / "site")],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = (result.stdout + result.stderr).splitlines()
    assert result.returncode == 0, "\n".join(line for line in said if not line.startswith("INFO"))
    return folder / "site"


def test_the_site_has_no_dead_links_and_every_page_is_reached(built: Path) -> None:
    pages = {path: parsed(path) for path in built.rglob("*.html") if path.name != "404.html"}
    reached, dead = {built / "index.html"}, []
    for path, page in pages.items():
        if "architecture_plots" in path.parts:  # the explorer makes its links in the browser
            continue
        for link in page.links:
            if re.match(r"(https?|mailto|data|javascript):", link):
                continue
            file, anchor = urldefrag(link)
            target = (path.parent / unquote(file)).resolve() if file else path
            known = pages[target].anchors if target in pages and target.name != EXPLORER else {unquote(anchor)}
            if not target.exists() or (anchor and unquote(anchor) not in known):
                dead.append(f"{path.relative_to(built)}: {link}")
            reached.add(target)
    assert not dead, dead
    ours = {path for path in pages if "architecture_plots" not in path.parts}
    assert ours <= reached
    assert {page.relative_to(ROOT).as_posix() for page in PAGES} == {
        path.relative_to(built).with_suffix(".md").as_posix().replace("index.md", "README.md")
        for path in ours
        if "python" not in path.relative_to(built).parts
    }
    home = pages[built / "index.html"]
    assert {guide.relative_to(ROOT).with_suffix(".html").as_posix() for guide in GUIDES.iterdir()} <= set(home.links)
    assert "architecture_plots/inception_resnet_v2/paper/overview.svg" in home.links


def test_the_site_has_every_public_name_command_and_recipe(built: Path) -> None:
    api = parsed(built / "python" / "inception_resnet_keras" / "index.html")
    for name in vars(inception_resnet_keras)["__all__"]:
        assert f"inception_resnet_keras.{name}" in api.anchors
        summary = inspect.cleandoc(getattr(inception_resnet_keras, name).__doc__).splitlines()[0]
        assert summary.replace("`", "") in api.text
    for section in ("Parameters:", "Returns:", "Raises:", "Examples:"):
        assert section in api.text
    commands = parsed(built / "inception_resnet_keras" / "guides" / "commands.html")
    for verb in VERBS:
        assert f"usage: {PROGRAM} {verb} [-h]" in commands.text
    recipes = parsed(built / "inception_resnet_keras" / "guides" / "recipes.html")
    for recipe in (ROOT / "inception_resnet_keras").glob("*/recipes/*.toml"):
        assert " ".join(recipe.read_text(encoding="utf-8").split()) in recipes.text


def in_text(docstring: str) -> str:
    """As a page shows it: without backticks, on one line."""
    return " ".join(docstring.replace("`", "").split())


def test_docstrings_are_shown_whole(built: Path) -> None:
    api = parsed(built / "python" / "inception_resnet_keras" / "index.html")
    returned = 0
    for name in vars(inception_resnet_keras)["__all__"]:
        function = getattr(inception_resnet_keras, name)
        for section in re.findall(r"^Returns:\n((?:    .*\n?|\n)+)", inspect.cleandoc(function.__doc__) + "\n", re.M):
            assert in_text(section) in api.text, name
            returned += 1
    assert returned > 20


def test_signatures_are_broken_over_lines_and_show_their_defaults(built: Path) -> None:
    html = (built / "python" / "inception_resnet_keras" / "index.html").read_text(encoding="utf-8")
    blocks = re.findall(r'<div class="[^"]*doc-signature[^"]*"><pre>(.*?)</pre>', html, re.S)
    signatures = [unescape(re.sub(r'<(?:"[^"]*"|[^">])*>', "", block)).strip() for block in blocks]
    by_name = {signature.partition("(")[0]: signature for signature in signatures}
    assert set(by_name) >= set(vars(inception_resnet_keras)["__all__"])
    assert max(len(line) for signature in signatures for line in signature.splitlines()) <= 88
    assert len(by_name["create_inception_v4"].splitlines()) > 20
    for name in vars(inception_resnet_keras)["__all__"]:
        for parameter in inspect.signature(getattr(inception_resnet_keras, name)).parameters.values():
            if isinstance(parameter.default, str | float | int | None):
                end = r",?$" if "\n" in by_name[name] else r"[,)]"
                shown = re.search(rf"\b{parameter.name}: .*? = (.*?){end}", by_name[name], re.M)
                assert shown, (name, parameter.name)
                assert eval(shown[1]) == parameter.default, (name, parameter.name)
    for path in (built / "python").rglob("*.html"):
        assert " at 0x" not in path.read_text(encoding="utf-8"), path


def test_no_line_of_a_docstring_becomes_a_note(built: Path) -> None:
    pages = {path: parsed(path).notes for path in (built / "python").rglob("*.html")}
    networks_pages = {built / "python/inception_resnet_keras/networks" / f"{name}.html" for name in networks.NETWORKS}
    assert {path for path, notes in pages.items() if notes} == networks_pages
    assert {note for notes in pages.values() for note in notes} == {"abstract"}, "the layers' tables"


FIGURES = [
    (name, variant, network) for name, variants in networks.NETWORKS.items() for variant, network in variants.items()
]


@pytest.mark.parametrize(("name", "variant", "network"), FIGURES, ids=[f"{name}-{v}" for name, v, _ in FIGURES])
def test_a_networks_page_shows_its_tables_its_pictures_and_the_explorer(
    built: Path, name: str, variant: str, network: Network
) -> None:
    page = parsed(built / "python/inception_resnet_keras/networks" / f"{name}.html")
    module = importlib.import_module(f"inception_resnet_keras.networks.{name}")
    assert f"inception_resnet_keras.networks.{name}" in page.anchors
    explorer = f"../../../architecture_plots/{EXPLORER}#network={name}"
    assert page.links.count(f"{explorer}/paper") >= 2, "a link and the frame"
    for part in graph_of(network, aux_head=bool(network.aux)).parts[1:]:
        assert f"{variant}-{part.key}" in page.anchors
        assert f"{explorer}/{variant}&open={part.key}" in page.links or variant != "paper"
        assert all(f"{op.name} " in page.text and f" {shape_text(op.shape)} " in page.text for op in part.ops)
    assert f"../../../architecture_plots/{name}/{variant}/overview.svg" in page.links
    rows = [value for value in vars(module).values() if isinstance(value, Fork | Residual)]
    written = [line.strip() for line in inspect.getsource(module).splitlines() if re.match(r" +\[?\[.*Conv\(", line)]
    assert len(written) >= 2 * len(rows)
    assert [line for line in written if " ".join(line.split()) not in page.text] == []
    assert network_title(name) in page.text


def test_search_works_in_pages_opened_as_files_and_fetches_nothing(built: Path, tmp_path: Path) -> None:
    home = built / "index.html"
    with opened(home, tmp_path) as window:
        window.get_log("performance")
        window.refresh()
        window.find_element("css selector", "[data-md-component=search-query]").send_keys("Reduction-A")
        window.set_script_timeout(60)
        window.execute_async_script(
            """
            const done = arguments[0], links = () => [...document.querySelectorAll(".md-search-result__link")];
            const look = () => (links().length ? done() : setTimeout(look, 100));
            look();
            """
        )
        found = [link.get_attribute("href") for link in window.find_elements("class name", "md-search-result__link")]
        assert any("/networks/inception_v4.html" in link for link in found)
        assert all(Path(unquote(re.sub(r"[?#].*", "", link).removeprefix("file://"))).is_file() for link in found)
        assert [url for url in requests(window) if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
        assert window.get_log("browser") == []


KINDS_OF_PAGE = [
    "index.html",
    "examples/index.html",
    "inception_resnet_keras/guides/commands.html",
    "inception_resnet_keras/guides/training.html",
    "python/inception_resnet_keras/index.html",
    "python/inception_resnet_keras/networks/inception_v4.html",
    "python/inception_resnet_keras/training/config.html",
]


@pytest.mark.parametrize("width", [1400, 390])
def test_no_code_is_cut_and_no_page_is_wider_than_its_window(built: Path, tmp_path: Path, width: int) -> None:
    with opened(built / "index.html", tmp_path, width=width) as window:
        for page in KINDS_OF_PAGE:
            visit(window, (built / page).as_uri())
            cut, blocks, wide = window.execute_script(
                """
                const blocks = [...document.querySelectorAll("pre > code")];
                const cut = blocks.filter((block) => block.scrollWidth > block.clientWidth + 1);
                return [cut.map((block) => block.textContent), blocks.length, document.documentElement.scrollWidth];
                """
            )
            assert cut == [], page
            assert blocks or page.startswith("examples"), page
            assert wide <= width, page
