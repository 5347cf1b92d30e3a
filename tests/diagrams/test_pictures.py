"""Each picture: what it says, that nothing is cut, both themes, every format, and what it costs."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from inception_resnet_keras import networks, plot_architecture
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.diagrams import svg as svg_module
from inception_resnet_keras.diagrams.api import LEVELS, Diagram, Level
from inception_resnet_keras.diagrams.draw import modules
from inception_resnet_keras.diagrams.svg import source_of
from inception_resnet_keras.networks.rows import Network

from ..fonts import CUNEIFORM, OTHER, installed_font

SVG = "{http://www.w3.org/2000/svg}"


def draw(network: Network, **options: Any) -> Diagram:
    return plot_architecture(network.name, variant=network.variant, **options)  # type: ignore[arg-type]


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("upwards", [False, True])
def test_no_label_is_cut(network: Network, level: Level, upwards: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """Graphviz measures each label against its box, and complains."""
    diagram = draw(network, level=level, aux_head=bool(network.aux), upwards=upwards)
    svg = ET.fromstring(diagram.svg())
    assert capfd.readouterr().err == ""
    assert svg.find(f"{SVG}g") is not None


def test_the_overview_has_each_stage_with_its_shape_and_costs(network: Network) -> None:
    diagram = draw(network)
    said = texts(diagram.svg())
    for part in diagram.graph.parts:
        assert any(part.title in text for text in said)
        assert "×".join(map(str, part.shape)) in said
        assert f"× {part.times}" in said or part.times == 1
    assert f"{diagram.graph.parameters:,}" in said
    width = ET.fromstring(diagram.svg()).get("width")
    assert float(width or "inf") <= svg_module.README_WIDTH


def test_how_often_a_block_repeats_stands_apart_from_the_sizes(network: Network) -> None:
    deep = [99] * len(networks.block_names(network))
    drawn = ET.fromstring(draw(network, depths=deep).svg())
    spans = {"".join(text.itertext()): text for text in drawn.iter(f"{SVG}text")}
    times = spans["× 99"]
    end = float(times.get("x") or 0) + float(times.get("textLength") or 0)
    sizes = [float(text.get("x") or 0) for words, text in spans.items() if re.fullmatch(r"\d+×\d+×\d+", words)]
    assert min(sizes) - end > 20


def test_a_module_has_a_legend_and_every_module_one_in_common() -> None:
    conv = "conv: convolution + batch norm + ReLU"
    assert conv in texts(plot_architecture("inception_v4", level="modules", module="a").svg())
    assert texts(plot_architecture("inception_v4", level="modules").svg()).count(conv) == 1


def test_every_module_fits_a_page(network: Network) -> None:
    """Of A4, with letters of 13 pixels at least as high as 4 points; in columns, the first part at the upper left."""
    diagram = draw(network, level="modules", aux_head=bool(network.aux))
    sheet = modules(diagram.graph, diagram.keys)
    short, long = sorted(72 * float(sheet.get_node('"page"')[0].get(side)) for side in ("width", "height"))
    assert 1.0 < long / short < 2.0
    millimetres = min(297 / long, 210 / short)  # of a pixel
    assert 13 * millimetres > 4 * 25.4 / 72
    places = {}
    for part in diagram.graph.parts[1:]:
        node = sheet.get_node(f'"{part.key}.title"')[0]
        x, y = map(float, node.get("pos").strip('"').split(","))
        places[part.key] = x - 36 * float(node.get("width")), -y
    assert len({round(x) for x, _ in places.values()}) >= 3
    order = sorted(places, key=lambda key: (round(places[key][0]), places[key][1]))
    assert order == [part.key for part in diagram.graph.parts[1:]]


def test_a_card_says_all_that_is_inside() -> None:
    facenet = texts(plot_architecture("inception_resnet_v1", variant="facenet").svg())
    assert {"global avg pool, dropout, dense 512,", "batch norm, L2 norm"} <= set(facenet)
    assert {"Figure 13", "Figure 13, without scale and ReLU"} <= set(facenet)
    aux = texts(plot_architecture("inception_v4", aux_head=True, num_classes=7).svg())
    assert {"global avg pool, dropout, dense 7, softmax", "5×5 avg pool, 1×1 conv, 5×5 conv, flatten,"} <= set(aux)
    assert "dense 7, softmax, not in the paper's figures" in aux


def test_a_module_has_the_papers_marks() -> None:
    said = texts(plot_architecture("inception_resnet_v2", level="modules", module="reduction_b").svg())
    assert "384 · stride 2 · V" in said
    assert "filter concat" in said
    said = texts(plot_architecture("inception_resnet_v2", level="modules", module="b").svg())
    assert {"x + 0.1 · f(x)", "1152‡ · linear", "1×7 conv"} <= set(said)
    assert any(text.startswith("‡ Figure 17 prints 1154") for text in said)
    unscaled = texts(plot_architecture("inception_resnet_v2", level="modules", module="b", scale=False).svg())
    assert "x + f(x)" in unscaled


def test_every_layers_name_is_text(network: Network) -> None:
    diagram = draw(network, level="layers")
    said = set(texts(diagram.svg()))
    names = [f"{place}_{layer}" for part in diagram.graph.parts for place in part.places if place
             for op in part.ops for layer in op.layers]  # fmt: skip
    assert set(names) <= said
    assert {"cluster_" + place for part in diagram.graph.parts for place in part.places if place} <= {
        title.text or "" for title in ET.fromstring(diagram.svg()).iter(f"{SVG}title")
    }


def test_dark_is_a_colour_for_every_light_one() -> None:
    for level in LEVELS:
        svg = plot_architecture("inception_resnet_v2", level=level).svg()
        rules, drawing = svg.split("</style>", 1)
        used = set(re.findall(r'(fill|stroke)="(#[0-9a-f]{6})"', drawing))
        assert used
        for what, colour in used:
            assert f'[{what}="{colour}"]' in rules, f"{colour} has no dark counterpart"


def test_a_colour_is_used_for_one_thing() -> None:
    lights = [colour.light for colour in svg_module.COLOURS]
    assert len(lights) == len(set(lights))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_contrast_is_enough(theme: str) -> None:
    """WCAG 2.2 AA: 4.5 for text, 3 for what must be told apart."""

    def of(colour: svg_module.Colour) -> str:
        return getattr(colour, theme)

    grounds = [svg_module.PAPER, svg_module.CARD, *(kind.fill for kind in svg_module.KINDS.values())]
    for ink, ground in itertools.product((svg_module.INK, svg_module.MUTED), grounds):
        assert contrast(of(ink), of(ground)) >= 4.5, (ink, ground)
    for line, ground in itertools.product((svg_module.EDGE, svg_module.BORDER), (svg_module.PAPER, svg_module.CARD)):
        assert contrast(of(line), of(ground)) >= 3, (line, ground)
    for kind in svg_module.KINDS.values():
        assert contrast(of(kind.line), of(svg_module.PAPER)) >= 3
        assert contrast(of(kind.line), of(kind.fill)) >= 3
        assert contrast(of(kind.line), of(svg_module.CARD)) >= 3
    # Words in a kind's colour, or on it: a difference, a badge, what a search found.
    for name in ("activation", "sum"):
        assert contrast(of(svg_module.KINDS[name].line), of(svg_module.PAPER)) >= 4.5
    assert contrast(of(svg_module.KINDS["activation"].line), of(svg_module.CARD)) >= 4.5


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("name", "start"),
    [("x.svg", b"<svg "), ("x.png", b"\x89PNG"), ("x.PDF", b"%PDF"), ("x.gv", b"digraph"), ("x.mmd", b"---\ntitle"),
     ("x.html", b"<!doctype html>")],
)  # fmt: skip
def test_a_files_name_says_its_format(name: str, start: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_text("an older picture")
    plot_architecture("inception_v4", tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing else is left beside it"


def test_pictures_carry_the_graph_they_were_drawn_from(tmp_path: Path) -> None:
    diagram = plot_architecture("inception_v4", tmp_path / "x.png")
    assert svg_module.png_source(tmp_path / "x.png") == diagram.dot()
    assert source_of(diagram.svg()) == diagram.dot()


def test_a_large_picture_carries_its_graph_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pixels are left as they were drawn: to pack them again takes as long as to draw them."""
    from PIL import Image

    diagram = plot_architecture("inception_v4", level="modules", module="head")
    packed = diagram.png()
    monkeypatch.setattr(svg_module, "LARGE", 0)
    (tmp_path / "x.png").write_bytes(diagram.png())
    assert svg_module.png_source(tmp_path / "x.png") == diagram.dot()
    with Image.open(tmp_path / "x.png") as left, Image.open(BytesIO(packed)) as again:
        assert left.info["dpi"] == pytest.approx((svg_module.DPI, svg_module.DPI), rel=1e-3)
        assert left.convert("RGB").tobytes() == again.tobytes()


def test_a_name_in_another_script_is_drawn_with_an_installed_font(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with installed_font(tmp_path, monkeypatch):
        small = plot_architecture("inception_v4", level="modules", module="head")
        small.png()  # after which this process reads no other settings of fonts
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            titled, untitled = (
                Diagram(replace(small.graph, title=title), "modules", ["head"]).png() for title in (CUNEIFORM, "")
            )
        heights = [ink(png)[1] for png in (titled, untitled)]
        assert heights[0] > heights[1], "the sign's glyph is drawn"
        unknown = Diagram(replace(small.graph, title=OTHER), "modules", ["head"])
        with pytest.warns(UserWarning, match="No installed font has a character of these names: install"):
            unknown.save(tmp_path / "x.png")
        assert r"\U00012001" in svg_module.png_source(tmp_path / "x.png"), "and not an empty box"
        assert OTHER in "".join(texts(unknown.svg())), "a browser has fonts of its own"


def ink(png: bytes) -> tuple[int, int]:
    """The size of a picture, and how many of its pixels are dark."""
    from PIL import Image

    with Image.open(BytesIO(png)) as picture:
        grey = picture.convert("L")
        return grey.size[0], sum(grey.histogram()[:100])


def test_squares_are_as_wide_as_high() -> None:
    for text, squares in (("猫", 1), ("a猫犬b", 2), ("ネコ", 2)):
        rest = "".join(sign for sign in text if sign.isascii())
        assert svg_module.width(text, 20) == pytest.approx(20 * squares + svg_module.width(rest, 20))


@pytest.fixture
def without_graphviz(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", "")


@pytest.mark.usefixtures("without_graphviz")
def test_without_graphviz_the_error_names_the_extra_and_the_texts_still_work(tmp_path: Path) -> None:
    for suffix in ("svg", "png", "pdf"):
        with pytest.raises(InputError, match=r"inception-resnet-keras\[plot\]"):
            plot_architecture("inception_v4", tmp_path / f"x.{suffix}")
    for suffix in ("dot", "mmd", "html"):
        plot_architecture("inception_v4", tmp_path / f"x.{suffix}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.dot", "x.html", "x.mmd"]
    diagram = plot_architecture("inception_v4")
    assert diagram._repr_svg_() is None
    assert "<iframe" in diagram._repr_html_()


def test_a_notebook_shows_the_svg() -> None:
    diagram = plot_architecture("inception_v4")
    assert (diagram._repr_svg_() or "").startswith("<svg ")
    assert (diagram._repr_svg_() or "") in diagram._repr_html_()  # as an image it would know nothing of the page
    assert "Inception-v4" in repr(diagram)


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz's dot: apt-get install graphviz")
def test_a_systems_dot_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with_wheel = plot_architecture("inception_resnet_v1", level="modules", module="b").svg()
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    with_system = plot_architecture("inception_resnet_v1", level="modules", module="b")
    assert texts(with_system.svg()) == texts(with_wheel)
    assert with_system.png().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"network": "inception_v5"}, "network: got 'inception_v5'"),
        ({"network": "inception_v4", "variant": "big"}, "variant: got 'big'"),
        ({"network": "inception_v4", "level": "all"}, "level: got 'all'"),
        ({"network": "inception_v4", "level": "modules", "module": "d"}, "module: got 'd'"),
        ({"network": "inception_v4", "module": "a"}, "module: got 'a' with level='overview'"),
        ({"network": "inception_v4", "input_shape": (20, 20, 3)}, "input_shape: got"),
        ({"network": "inception_v4", "to_file": "x.bmp"}, "to_file: got 'x.bmp'"),
        ({"network": "inception_v4", "to_file": "not/there/x.svg"}, "make 'not/there' first"),
        ({"network": "inception_v4", "to_file": "x.svg", "format": "gif"}, "format: got 'gif'"),
        ({"network": "inception_v4", "num_classes": 0}, "num_classes: got 0"),
        ({"network": "inception_resnet_v1", "variant": "facenet", "aux_head": True}, "aux_head: got True"),
        ({"network": 7}, "network: got 7"),
        ({"network": 7, "depths": (1, 1, 1)}, "depths: got (1, 1, 1)"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        plot_architecture(**arguments)


def test_overview_and_modules_need_no_engine() -> None:
    program = """
import sys
from inception_resnet_keras import plot_architecture
for level, module in (("overview", None), ("modules", "b")):
    diagram = plot_architecture("inception_resnet_v2", level=level, module=module)
    diagram.svg(), diagram.png()
assert not {"tensorflow", "keras"} & set(sys.modules), "an engine was imported"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_all_networks_are_drawn_at_every_level_as_they_are_given() -> None:
    deep = plot_architecture("inception_resnet_v2", depths=(10, 20, 10), input_shape=(None, None, 1), num_classes=5)
    assert [part.times for part in deep.graph.parts if part.times > 1] == [10, 20, 10]
    assert deep.graph.part("head").shape == (5,)
    assert set(networks.NETWORKS) == {"inception_v4", "inception_resnet_v1", "inception_resnet_v2"}
    for level in LEVELS:
        assert plot_architecture("inception_resnet_v2", level=level, input_shape=(None, None, 3)).svg()
