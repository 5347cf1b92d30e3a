"""Writes the site's pages of the three networks and of the package's public names, from the code itself.

A network's page shows each figure as it stands in `inception_resnet_keras/networks/`, the picture that is drawn from
it, and every layer with its shape and counts. Nothing of it is typed here.
"""

import ast
import inspect
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path
from posixpath import relpath
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import inception_resnet_keras
from inception_resnet_keras import networks
from inception_resnet_keras.diagrams.from_table import graph_of
from inception_resnet_keras.diagrams.graph import Graph, Part, inside, network_title, shape_text, short
from inception_resnet_keras.networks import inception_resnet_v1, inception_resnet_v2, inception_v4, names, rows, shared
from inception_resnet_keras.networks.rows import Network

PACKAGE = "inception_resnet_keras"
MODULES = {module.PAPER.name: module for module in (inception_v4, inception_resnet_v1, inception_resnet_v2)}
PICTURES = "architecture_plots"
GUIDE = f"{PACKAGE}/guides/variants.md"
VARIANTS = {  # what a variant is, for its heading
    "paper": "the paper's network",
    "slim": "released with weights for ImageNet",
    "facenet": "released with weights for faces",
    "facenet_128": "released for faces in 2017",
}
ROOMS = {  # of the package, in the order of use, with what their public names are for
    "networks": "Build a network",
    "weights": "Load weights",
    "data": "Prepare pixels",
    "training": "Train",
    "models": "Use a model",
    "evaluation": "Judge and explain",
    "deploy": "Export and serve",
    "diagrams": "Draw",
}


def address(name: str) -> str:
    """Of a network's page, which is also that of its module."""
    return f"python/{PACKAGE}/networks/{name}.md"


INDEX = f"python/{PACKAGE}/index.md"


def on_files(files: Files, config: MkDocsConfig) -> None:
    for name in networks.NETWORKS:
        files.append(File.generated(config, address(name), content=network_page(name)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    path = page.file.src_uri
    if path in (INDEX, *map(address, networks.NETWORKS)) or not path.startswith("python/"):
        page.meta["search"] = {"boost": 4}  # before the pages of single modules
    return public_names() if path == INDEX else markdown


# The networks


def network_page(name: str) -> str:
    title = network_title(name)
    explorer = f"{_up(name, PICTURES)}/explorer.html#network={name}/paper"
    lines = [
        f"---\ntitle: {title}\n---\n",
        f"::: {PACKAGE}.networks.{name}",
        f"    options: {{heading: {title}, heading_level: 1, show_root_heading: true, members: false,"
        " show_symbol_type_heading: false}\n",
        f"Built by [`create_{name}`][{PACKAGE}.create_{name}]. The rows below are those of"
        f" `{PACKAGE}/networks/{name}.py`; the pictures and the layers are made from them."
        f" [The paper's networks and the released ones]({_up(name, GUIDE)}) compares the variants, and lists the"
        " paper's misprints.\n",
        f"[Open the explorer]({explorer}){{.md-button}}\n",
        f'<iframe class="explorer" title="{title} in the explorer" src="{explorer}" loading="lazy"></iframe>\n',
    ]
    shown: dict[tuple[Any, ...], str] = {}  # what was shown of an earlier variant, and where
    for variant, network in networks.NETWORKS[name].items():
        graph = graph_of(network, aux_head=bool(network.aux))
        lines.append(f"## Variant `{variant}`: {VARIANTS[variant]} {{#{variant}}}\n")
        lines.append(_figure(name, variant, "overview", f"{title} ({variant}), stage by stage"))
        lines += _stages(graph)
        sources = part_sources(MODULES[name], network, graph)
        for part in graph.parts[1:]:
            lines += _part(graph, part, sources.get(part.key, ""), shown)
    return "\n".join(lines)


def _stages(graph: Graph) -> Iterable[str]:
    """The whole network, a stage a row."""
    yield "| stage | blocks | output | parameters | multiply-adds |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    whole = replace(graph, parts=tuple(part for part in graph.parts if part.key != names.AUX))
    yield from (_stage(graph, part) for part in whole.parts[1:])
    yield f"| **whole network** | | | **{whole.parameters:,}** | **{short(whole.macs)}** |"
    yield from (_stage(graph, part) for part in graph.parts if part.key == names.AUX)
    yield ""


def _stage(graph: Graph, part: Part) -> str:
    figure = f", {part.figure}" if part.figure else ""
    counts = f"{short(part.parameters * part.times)} | {short((part.macs or 0) * part.times)}"
    stage = f"[{part.title}](#{_anchor(graph, part)}){figure}"
    return f"| {stage} | {part.times} | {shape_text(part.shape)} | {counts} |"


def _part(graph: Graph, part: Part, source: str, shown: dict[tuple[Any, ...], str]) -> Iterable[str]:
    """One figure: its rows, its picture, its layers; or where an earlier variant has the same."""
    times = f" × {part.times}" if part.times > 1 else ""
    heading = f"{part.title}{times} ({part.figure})" if part.figure.startswith("Figure") else part.title + times
    yield f"### {heading} {{#{_anchor(graph, part)}}}\n"
    same = (part.title, part.figure, part.times, part.ops, graph.input_of(part))
    if same in shown:
        yield f"The same as in {shown[same]}.\n"
        return
    shown[same] = f"[`{graph.variant}`](#{_anchor(graph, part)})"
    if source:
        yield f"```python\n{source}\n```\n"
    elif not part.figure:
        yield f"{inside(part)[:1].upper()}{inside(part)[1:]}.\n"
    yield _figure(graph.name, graph.variant, part.key, f"{graph.title} ({graph.variant}): {heading}")
    link = f"{_up(graph.name, PICTURES)}/explorer.html#network={graph.name}/{graph.variant}&open={part.key}"
    yield f"[{part.title} in the explorer]({link})\n"
    whose = f"each of the {part.times} blocks" if part.times > 1 else part.title
    yield f'??? abstract "The layers of {whose}: shapes, parameters, multiply-adds"\n'
    layers = ["| layer | operation | output | parameters | multiply-adds | reads |"]
    layers.append("| --- | --- | ---: | ---: | ---: | --- |")
    for op in part.ops:
        shape = shape_text(op.shape)
        does = " · ".join(word for word in (op.title, op.detail) if word not in ("", shape))
        counts = f"{op.parameters:,} | {short(op.macs)}" if op.parameters else " | "
        reads = ", ".join(f"`{tail}`" if tail else "the input" for tail in op.inputs)
        layers.append(f"| `{op.name}` | {does} | {shape} | {counts} | {reads} |")
    yield "\n".join(f"    {line}" for line in layers) + "\n"


def _anchor(graph: Graph, part: Part) -> str:
    return f"{graph.variant}-{part.key}"


def _figure(name: str, variant: str, picture: str, text: str) -> str:
    path = f"{_up(name, PICTURES)}/{name}/{variant}/{picture}.svg"
    return f'[![{text}]({path}){{loading="lazy"}}]({path}){{.figure}}\n'


def _up(name: str, target: str) -> str:
    return relpath(target, str(Path(address(name)).parent))


# The rows as they are written


def part_sources(module: ModuleType, network: Network, graph: Graph) -> dict[str, str]:
    """The source of each part of a network by the part's key: what its table says, and what that names."""
    [constant] = [name for name, value in vars(module).items() if value is network]
    table = _keywords(module, constant)
    stages = table["stages"]
    assert isinstance(stages, ast.List)
    ends = {"stem": table["stem"], "final": table.get("final"), "aux": table.get("aux")}
    blocks = [part.key for part in graph.parts if part.reads and part.key not in (*ends, "head")]
    rows_of = {**ends, **dict(zip(blocks, stages.elts, strict=True))}
    return {key: _written(module, node) for key, node in rows_of.items() if node is not None}


def _keywords(module: ModuleType, constant: str) -> dict[str, ast.expr]:
    """The arguments of a table, those included of the table that it is made from by `replace`."""
    call = _assigned(module)[constant]
    assert isinstance(call, ast.Assign)
    assert isinstance(call.value, ast.Call)
    base = [_keywords(module, name.id) for name in call.value.args if isinstance(name, ast.Name)]
    own = {keyword.arg: keyword.value for keyword in call.value.keywords if keyword.arg}
    return {**(base[0] if base else {}), **own}


@cache
def _assigned(module: ModuleType) -> dict[str, ast.stmt]:
    """A module's constants and functions by name."""
    found: dict[str, ast.stmt] = {}
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            found[statement.targets[0].id] = statement
        elif isinstance(statement, ast.FunctionDef):
            found[statement.name] = statement
    return found


def _written(module: ModuleType, node: ast.expr) -> str:
    """A row's lines, and before them the definitions that it names, from wherever they stand."""
    texts = [] if isinstance(node, ast.Name) else [_lines(module, node)]
    for name in dict.fromkeys(each.id for each in ast.walk(node) if isinstance(each, ast.Name)):
        for home in (module, shared, rows):
            definition = _assigned(home).get(name)
            if definition is not None and name not in ("Conv", "Fork", "Pool", "Repeat", "MAX_POOL", "AVG_POOL"):
                texts.append(_lines(home, definition))
                break
    return "\n\n".join(texts[1:] + texts[:1]) if len(texts) > 1 else "".join(texts)


def _lines(module: ModuleType, node: ast.AST) -> str:
    """Whole lines, with their comments."""
    first, last = node.lineno, node.end_lineno  # type: ignore[attr-defined]
    lines = [re.sub(r"  # noqa.*", "", line) for line in inspect.getsource(module).splitlines()[first - 1 : last]]
    return inspect.cleandoc("\n" + "\n".join(lines)).rstrip(",")


# The public names


def public_names() -> str:
    """Every public name under what it is for, after a list of them all."""
    stub = ast.parse(Path(inception_resnet_keras.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    homes = {
        name.name: statement.module
        for statement in stub.body
        if isinstance(statement, ast.ImportFrom) and statement.module
        for name in statement.names
    }
    order = [*ROOMS, *(f"create_{name}" for name in networks.NETWORKS)]
    room_of = {name: home.partition(".")[0] for name, home in homes.items()}
    ordered = sorted(
        homes, key=lambda name: (order.index(room_of[name]), order.index(name) if name in order else len(order))
    )
    lines = [
        f"::: {PACKAGE}",
        "    options: {heading: Public names, heading_level: 1, show_root_heading: true, members: false,"
        " show_symbol_type_heading: false}\n",
    ]
    grouped = [(room, list(group)) for room, group in groupby(ordered, key=room_of.__getitem__)]
    lines += ["| to | names |", "| --- | --- |"]
    for room, group in grouped:
        lines.append(f"| {ROOMS[room].lower()} | {', '.join(f'[`{name}`](#{PACKAGE}.{name})' for name in group)} |")
    for room, group in grouped:
        lines.append(f"\n## {ROOMS[room]}\n")
        for name in group:
            options = "{heading_level: 3, show_root_heading: true, show_root_full_path: false}"
            lines.append(f"::: {PACKAGE}.{name}\n    options: {options}\n")
    return "\n".join(lines)
