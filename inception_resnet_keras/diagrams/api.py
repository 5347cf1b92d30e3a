"""`plot_architecture`: draw a network or a model as a picture, as text for another drawing program, or as a page."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from .. import networks
from ..common.arguments import boolean, one_of, positive_integer
from ..common.errors import InputError, refuse
from ..common.files import replacing
from ..networks.checks import apply_depths, apply_scale, check_aux_head, check_image_shape
from ..networks.edits import with_output_stride, with_padding
from ..networks.rows import Padding
from . import mermaid, svg
from .explorer import page
from .from_table import graph_of
from .graph import INPUT, Graph
from .recover import model_graph

Level = Literal["overview", "modules", "layers"]
Format = Literal["svg", "png", "pdf", "dot", "mermaid", "html"]
LEVELS: tuple[Level, ...] = get_args(Level)

FORMATS: dict[str, Format] = {
    ".svg": "svg",
    ".png": "png",
    ".pdf": "pdf",
    ".dot": "dot",
    ".gv": "dot",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".html": "html",
}


class KerasModel(Protocol):
    """The part of a `keras.Model` that a drawing reads. Keras is not imported here."""

    @property
    def name(self) -> str: ...

    @property
    def layers(self) -> Any: ...


class Diagram:
    """A drawing, made on request: a notebook shows it inline, and each method returns one format.

    Attributes:
        graph: The network.
        level: "overview", "modules" or "layers".
        keys: The keys of the parts that "modules" shows.
    """

    def __init__(self, graph: Graph, level: Level, keys: Sequence[str], *, upwards: bool = False) -> None:
        self.graph, self.level, self.keys, self.upwards = graph, level, tuple(keys), upwards

    def __repr__(self) -> str:
        return f"<{self.title}>"

    @property
    def title(self) -> str:
        what = ", ".join(self.graph.part(key).title for key in self.keys) if self.level == "modules" else self.level
        return f"{self.graph.title} ({self.graph.variant}): {what}"

    def dot(self) -> str:
        """The drawing in Graphviz's language, with positions that `dot` keeps."""
        from .draw import modules, overview
        from .every_layer import layers

        if self.level == "overview":
            return overview(self.graph, upwards=self.upwards).to_string()
        if self.level == "layers":
            return layers(self.graph, upwards=self.upwards).to_string()
        return modules(self.graph, self.keys, upwards=self.upwards).to_string()

    def svg(self) -> str:
        """An SVG in light or dark, as the reader prefers, with selectable text. Raises InputError without Graphviz."""
        from .svg import themed

        source = self.dot()
        return themed(svg.draw(source, "svg").decode(), self.title, source)

    def png(self) -> bytes:
        """A PNG in light colours, with two dots per pixel of the SVG. Raises InputError without Graphviz.

        With level="layers" the image has up to 80 megapixels and takes some seconds. An SVG is drawn at once and is
        sharp at any size.
        """
        source = self._with_fonts().dot()
        return svg.with_source(svg.draw(source, "png"), source)

    def pdf(self) -> bytes:
        """A PDF of one page as large as the picture. Raises InputError without Graphviz."""
        return svg.draw(self._with_fonts().dot(), "pdf")

    def _with_fonts(self) -> Diagram:
        """The graph with a title that this machine's fonts can draw. For an SVG the browser finds the fonts."""
        graph = replace(self.graph, title=svg.drawable(self.graph.title))
        return Diagram(graph, self.level, self.keys, upwards=self.upwards)

    def mermaid(self) -> str:
        """A Mermaid flowchart, for a README or an issue."""
        if self.level == "overview":
            return mermaid.overview(self.graph)
        return mermaid.layers(self.graph) if self.level == "layers" else mermaid.modules(self.graph, self.keys)

    def html(self) -> str:
        """The explorer as one page without external files: every level, and the network's other variants."""
        from .explorer import page

        return page([self.graph, *_other_variants(self.graph)])

    def save(self, to_file: str | PathLike[str], format: Format | None = None) -> Path:
        """Write a file in one step, replacing an existing one; the format follows from its name."""
        path = Path(to_file)
        named = FORMATS.get(path.suffix.lower())
        if format and named and format != named:
            raise refuse("format", format, f"{named!r}, which {str(to_file)!r} ends in, or None")
        chosen = format or named
        if chosen is None:
            raise refuse("to_file", str(to_file), f"a name that ends in {', '.join(FORMATS)}, or a format beside it")
        content = getattr(self, chosen)()
        write(path, content.encode() if isinstance(content, str) else content)
        return path

    def _repr_svg_(self) -> str | None:
        return self.svg() if svg.can_draw() else None

    def _repr_html_(self) -> str:
        """The drawing inline, so that it follows the notebook's background; without Graphviz, the explorer in a frame.

        Notebooks display a separate SVG as an image, which cannot follow the page.
        """
        if svg.can_draw():
            return f'<div style="overflow-x:auto">{self.svg()}</div>'
        return (
            f'<iframe sandbox="allow-scripts" style="width:100%;height:640px;border:0" '
            f'title="{escape(self.title)}" srcdoc="{escape(self.html())}"></iframe>'
        )


def plot_architecture(
    network: Literal["inception_v4", "inception_resnet_v1", "inception_resnet_v2"] | KerasModel,
    to_file: str | PathLike[str] | None = None,
    *,
    level: Level = "overview",
    module: str | None = None,
    variant: Literal["paper", "slim", "facenet", "facenet_128"] = "paper",
    depths: Sequence[int] | None = None,
    scale: bool | float | Sequence[float] = True,
    input_shape: Sequence[int | None] | None = None,
    num_classes: int | None = None,
    aux_head: bool = False,
    padding: Padding = "valid",
    output_stride: Literal[16, 8] | None = None,
    upwards: bool = False,
    format: Format | None = None,
) -> Diagram:
    """Draw a network as the paper does.

    Args:
        network: "inception_v4", "inception_resnet_v1" or "inception_resnet_v2"; or a model that this
            package built or loaded, which is drawn with its own size, depths, scales and heads.
        to_file: The file to write, replacing an existing one: .svg, .png, .pdf, .dot, .mmd (Mermaid) or .html
            (the explorer: one page that opens without a network connection). None writes nothing.
        level: "overview" (the paper's Figures 9 and 15), "modules" (Figures 3 to 8 and 10 to 19)
            or "layers" (every Keras layer, one card per block).
        module: With level="modules", the only module to draw, such as "stem", "a" or "reduction_b".
        variant: The variant of the network, as in the factories. A model keeps its own; this holds for the
            arguments up to `output_stride`.
        depths: Number of blocks per stage, as in the factories. None for the variant's own.
        scale: Residual scales, as in the factories.
        input_shape: (height, width, channels); a height or width may be None. None for
            the variant's own: (160, 160, 3) for "facenet" and "facenet_128", (299, 299, 3) for the others.
        num_classes: Width of the classifier, at least 1. None for the variant's own head: an
            embedding for "facenet", 1000 classes for the others.
        aux_head: Whether to draw the auxiliary head.
        padding: "valid" or "same", as in the factories.
        output_stride: 16, 8 or None, as in the factories. With 8 the network ends after its blocks B, without a
            head.
        upwards: Whether the image is at the bottom, as in the paper.
        format: "svg", "png", "pdf", "dot", "mermaid" or "html". Needed only if the name of `to_file` does not
            determine it.

    Returns:
        A Diagram, which a notebook displays. Its methods svg, png, pdf, dot, mermaid and html return each format.

    Raises:
        InputError (a ValueError): An argument is out of range; a model is not one of this package;
            or a picture is requested and neither pygraphviz nor Graphviz is installed.

    Examples:
        >>> plot_architecture("inception_resnet_v2")
        <Inception-ResNet-v2 (paper): overview>
        >>> block = plot_architecture("inception_v4", level="modules", module="a", format="mermaid")
        >>> "flowchart TB" in block.mermaid()
        True
    """
    one_of("level", level, LEVELS)
    one_of("format", format, (None, *dict.fromkeys(FORMATS.values())))
    if isinstance(network, str):
        table = apply_scale(apply_depths(networks.find(network, variant), depths), scale)
        table = with_output_stride(with_padding(table, padding), output_stride)
        check_aux_head(table, aux_head)
        shape = (table.size, table.size, 3) if input_shape is None else input_shape
        height, width, channels = check_image_shape(table, shape, "channels_last", aux_head=aux_head)
        classes = None if num_classes is None else positive_integer("num_classes", num_classes)
        graph = graph_of(table, (height, width), channels=channels or 3, classes=classes, aux_head=aux_head)
    else:
        defaults = inspect.signature(plot_architecture).parameters
        given: dict[str, Any] = {"variant": variant, "depths": depths, "scale": scale, "input_shape": input_shape}
        given |= {"num_classes": num_classes, "aux_head": aux_head, "padding": padding, "output_stride": output_stride}
        for argument, value in given.items():
            if value != defaults[argument].default:
                raise refuse(argument, value, "nothing where a model is drawn: it has its own")
        graph = model_graph(network)
    keys = [part.key for part in graph.parts if part.key != INPUT]
    if module is not None:
        if level != "modules":
            raise InputError(f"module: got {module!r} with level={level!r}; it takes None there, or level='modules'")
        one_of("module", module, keys)
        keys = [module]
    diagram = Diagram(graph, level, keys, upwards=boolean("upwards", upwards))
    if to_file is not None:
        diagram.save(to_file, format)
    return diagram


def write(path: Path, content: bytes) -> None:
    """Write the whole file or nothing."""
    if not path.parent.is_dir():
        raise refuse("to_file", str(path), f"a file in a folder that is there: make {str(path.parent)!r} first")
    with replacing(path) as beside:
        beside.write_bytes(content)


def _other_variants(graph: Graph) -> list[Graph]:
    """The network's tables to compare with, including the model's own one, because its depths may differ."""
    others = [graph_of(table) for table in networks.NETWORKS[graph.name].values()]
    return [other for other in others if other != graph]


EXPLORER = "explorer.html"


def draw_all(folder: Path) -> list[Path]:
    """Write every picture as SVG and PNG, and the explorer; return their paths. Raises InputError without Graphviz."""
    written: list[Path] = []
    for name, diagram in pictures():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        written += [diagram.save(path.with_name(path.name + suffix)) for suffix in (".svg", ".png")]
    write(folder / EXPLORER, explorer().encode())
    return [*written, folder / EXPLORER]


def pictures() -> Iterator[tuple[str, Diagram]]:
    """Each picture with its path in the folder, without the suffix: `inception_v4/paper/reduction_a`."""
    for name, variants in networks.NETWORKS.items():
        for variant, network in variants.items():
            graph = graph_of(network, aux_head=bool(network.aux))
            parts = [part.key for part in graph.parts if part.key != INPUT]
            yield f"{name}/{variant}/overview", Diagram(graph_of(network), "overview", ())
            for key in parts:
                yield f"{name}/{variant}/{key}", Diagram(graph, "modules", [key])


def explorer() -> str:
    """One page with every network and variant."""
    return page([graph_of(network) for variants in networks.NETWORKS.values() for network in variants.values()])
