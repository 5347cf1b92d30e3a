"""The explorer in a real browser: it opens, finds, compares, obeys the keyboard, and fetches nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from inception_resnet_keras import networks
from inception_resnet_keras.diagrams.explorer import data_of, page
from inception_resnet_keras.diagrams.from_table import graph_of
from inception_resnet_keras.diagrams.graph import network_title
from inception_resnet_keras.networks.rows import Network

from .browser import opened, requests, visit, wait_until_complete
from .conftest import TABLES, other_variant

EVIL = '</script><img src=x onerror="document.title=1">'


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    others = [other_variant(networks.find(name)) for name in networks.NETWORKS]
    graphs = [graph_of(table) for table in (*TABLES, *others)]
    evil = next(graph for graph in graphs if (graph.name, graph.variant) == ("inception_resnet_v1", "other"))
    graphs[graphs.index(evil)] = replace(evil, title=EVIL)
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    path.write_text(page(graphs), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(html: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with opened(html, tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.fixture
def window(browser: Any, html: Path) -> Iterator[Any]:
    """The page as it first opens; afterwards nothing was fetched but the page, and nothing went wrong."""
    visit(browser, html.as_uri())
    browser.get_log("performance"), browser.get_log("browser")
    browser.refresh()
    wait_until_complete(browser)
    yield browser
    assert requests(browser) == [html.as_uri()]
    assert browser.get_log("browser") == []


def item(window: Any, name: str, side: int = 0) -> Any:
    return window.find_element("css selector", f'[data-side="{side}"][data-id="{name}"]')


def names(window: Any) -> list[str]:
    return [found.get_attribute("data-id") for found in window.find_elements("css selector", "[data-id]")]


def choose(window: Any, field: str, text: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(window.find_element("id", field)).select_by_visible_text(text)


def keys(window: Any, *pressed: str) -> str:
    """Presses the keys, and says which item has the focus then."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(window).send_keys(*pressed).perform()
    return window.execute_script("return document.activeElement.dataset.id ?? document.activeElement.id")


def edges(window: Any, element: Any) -> dict[str, float]:
    return window.execute_script("return arguments[0].getBoundingClientRect().toJSON()", element)


def results(window: Any, words: str) -> list[list[str]]:
    """The lines of each result of a search."""
    field = window.find_element("id", "search")
    field.clear()
    field.send_keys(words)
    return [result.text.splitlines() for result in window.find_elements("css selector", "#results [role=option]")]


def in_sight(window: Any, element: Any) -> bool:
    stage, box = (
        window.execute_script(
            "const b=arguments[0].getBoundingClientRect();return [b.left,b.top,b.right,b.bottom]", each
        )
        for each in (window.find_element("id", "stage"), element)
    )
    return box[0] >= stage[0] and box[1] >= stage[1] and box[0] < stage[2] and box[1] < stage[3]


def test_a_block_opens_in_place_down_to_its_layers(window: Any) -> None:
    assert "a/a01" not in names(window)
    item(window, "a").click()
    assert item(window, "a").get_attribute("aria-expanded") == "true"
    item(window, "a/a03").click()
    layers = item(window, "a/a03/branch_4_conv_2").text.splitlines()
    assert layers[2:] == ["a03_branch_4_conv_2", "a03_branch_4_conv_2_bn", "a03_branch_4_conv_2_relu"]
    item(window, "a/a03").find_element("class name", "chevron").click()
    assert "a/a03/branch_4_conv_2" not in names(window)
    window.find_element("id", "fold").click()
    item(window, "stem").find_element("class name", "chevron").click()
    assert "stem/stem/fork_2_branch_2_conv_3" in names(window)


OPEN_ALL = """
for (const part of state.graphs[0].parts.filter((other) => other.reads)) {
  state.open.add(part.key);
  for (const place of part.places) state.open.add(`${part.key}/${place}`);
}
render();
"""

DRAWN = "return state.scene.columns[0].items.filter((item) => item.type === 'op').length"

TO_DRAW = """
return state.graphs[0].parts.filter((part) => part.reads)
  .reduce((count, part) => count + part.times * part.ops.length, 0)
"""

CUT_OR_OVERLAPPING = """
const boxes = state.scene.columns[0].items.filter((item) => item.op || item.type === 'reads'), wrong = [];
const apart = (a, b) => a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
boxes.forEach((one, i) => boxes.slice(i + 1).forEach((other) => {
  if (!apart(one.box, other.box)) wrong.push(one.id, other.id);
}));
const cut = (node) => node.scrollWidth > node.clientWidth + 1 || node.scrollHeight > node.clientHeight + 1;
for (const node of document.querySelectorAll('.op, .figure')) if (cut(node)) wrong.push(node.textContent);
return wrong;
"""


def test_every_block_of_a_network_opens_and_no_label_is_cut(window: Any, network: Network) -> None:
    choose(window, "network", network_title(network.name))
    choose(window, "variant", network.variant)
    assert window.execute_script(CUT_OR_OVERLAPPING) == []
    window.execute_script(OPEN_ALL)
    assert window.execute_script(DRAWN) == window.execute_script(TO_DRAW)
    assert window.execute_script(CUT_OR_OVERLAPPING) == []


def test_the_lines_bear_shapes_and_the_stages_bars(window: Any) -> None:
    shapes = [text.text for text in window.find_elements("css selector", "#edges text")]
    assert shapes[:3] == ["299×299×3", "35×35×384", "35×35×384"]
    bars = item(window, "b").find_elements("class name", "fill")
    assert len(bars) == 2
    assert all(bar.size["width"] > 100 for bar in bars), "the largest stage's bars are full"
    assert "20.6 M" in item(window, "b").text
    item(window, "reduction_a").click()
    assert {"17×17×384", "35×35×192"} <= {text.text for text in window.find_elements("css selector", "#edges text")}


def test_search_finds_a_layer_opens_it_and_brings_it_into_sight(window: Any) -> None:
    field = window.find_element("id", "search")
    field.send_keys("b05_branch_4_conv_3_bn")
    results = window.find_elements("css selector", "#results [role=option]")
    assert [result.text for result in results] == ["b05_branch_4_conv_3_bn"]
    focused = keys(window, "\ue007")
    assert focused == "b/b05/branch_4_conv_3"
    assert in_sight(window, item(window, focused))
    assert window.find_element("css selector", ".layer.hit").text == "b05_branch_4_conv_3_bn"
    assert "b05_branch_4_conv_3_relu" in window.find_element("id", "panel").text
    field.clear()
    field.send_keys("no such layer")
    assert "no layer" in window.find_element("id", "results").text


def test_search_finds_kernels_and_parts(window: Any) -> None:
    found = results(window, "7×1")
    assert found[0] == ["stem_fork_2_branch_2_conv_2", "7×1 conv 64"]
    assert all("7×1 conv" in about for _, about in found), "not 17×17×1024"
    assert results(window, "7x1") == found
    assert ["b02_branch_3_conv_3", "7×1 conv‡ 256"] in results(window, "7×1 b02")
    assert results(window, "Reduction-A")[0] == ["Reduction-A", "17×17×1024"]
    assert keys(window, "\ue007") == "reduction_a"


@pytest.mark.parametrize(
    ("words", "layer", "theirs", "whose"),
    [
        ("Mixed_5b", "a01_branch_1_conv_1", "InceptionV4/Mixed_5b/Branch_0/Conv2d_0a_1x1", "Inception-v4, slim"),
        ("block35_7/ 0c", "a07_branch_3_conv_3", "block35_7/Branch_2/Conv2d_0c_3x3", "Inception-ResNet-v2, slim"),
        ("repeat_2.3.branch1.1", "b04_branch_2_conv_2", "repeat_2.3.branch1.1", "Inception-ResNet-v1, facenet"),
    ],
)  # fmt: skip
def test_search_finds_other_projects_names_in_every_network(
    window: Any, words: str, layer: str, theirs: str, whose: str
) -> None:
    """Of networks that are not shown too: the paper's, which is, was never published elsewhere."""
    name, about, network = results(window, words)[0]
    assert (name, network) == (layer, whose)
    assert about.endswith(theirs)
    assert keys(window, "\ue007").endswith(layer.partition("_")[2])
    assert window.find_element("id", "variant").find_element("css selector", ":checked").text == whose.split(", ")[1]
    assert about in window.find_element("id", "panel").text


def test_any_two_networks_are_compared(window: Any) -> None:
    choose(window, "compare", "Inception-ResNet-v2 · slim")
    titles = [title.text for title in window.find_elements("class name", "side-title")]
    assert titles == ["Inception-v4 (paper)", "Inception-ResNet-v2 (slim)"]
    left, right = item(window, "reduction_a"), item(window, "reduction_a", 1)
    assert edges(window, left)["top"] == edges(window, right)["top"]
    assert "differs" in left.get_attribute("class")
    assert "output 17×17×1024 → 17×17×1088" in window.find_element("id", "panel").text
    left.click()
    assert "m = 256" in item(window, "reduction_a/reduction_a/branch_3_conv_3").text
    assert "m = 384" in item(window, "reduction_a/reduction_a/branch_2_conv_3", 1).text


STATE = """
return [state.graphs.map((graph) => graph.id), [...state.open], state.chosen?.item.id ?? null,
        document.documentElement.dataset.theme ?? "auto", vendor.zoomTransform(stage).k.toFixed(2)]
"""


def address(window: Any) -> str:
    """The page's address once it is written, which waits for a pause."""
    window.execute_async_script("setTimeout(arguments[0], PAUSE + 100)")
    return window.current_url


def test_the_view_is_kept_in_the_address(window: Any, html: Path) -> None:
    assert address(window) == html.as_uri(), "nothing is said of the first view"
    choose(window, "variant", "slim")
    choose(window, "compare", "Inception-ResNet-v1 · facenet")
    item(window, "b").click()
    item(window, "b/b02").click()
    item(window, "b/b02/branch_3_conv_2").click()
    window.find_element("id", "zoom-out").click()
    window.find_element("id", "theme").click()
    before, kept = window.execute_script(STATE), address(window)
    assert before[1:4] == [["b", "b/b02"], "b/b02/branch_3_conv_2", "light"]
    visit(window, "about:blank")
    visit(window, kept)
    assert window.execute_script(STATE) == before
    window.execute_script("location.hash = 'network=nowhere/none&open=x%20c&chosen=9:z&view=a'")
    window.execute_async_script("setTimeout(arguments[0], 50)")
    assert window.execute_script(STATE)[:3] == [[0], ["c"], None], "what the page has not is left out"
    visit(window, html.as_uri())
    window.get_log("performance")
    window.refresh()
    wait_until_complete(window)


def test_the_first_screen_shows_the_whole_network(window: Any, network: Network) -> None:
    choose(window, "network", network_title(network.name))
    choose(window, "variant", network.variant)
    assert all(in_sight(window, card) for card in window.find_elements("css selector", "[data-id]"))
    assert window.execute_script("return vendor.zoomTransform(stage).k") > 0.8


def test_the_keyboard_reaches_everything(window: Any) -> None:
    window.execute_script("document.getElementById('theme').focus()")
    assert keys(window, "\ue004") == "input"
    assert keys(window, "\ue015") == "stem"
    assert keys(window, "\ue004") == "a"
    assert keys(window, "\ue007", "\ue014") == "a/a01"
    assert keys(window, " ", "\ue014", "\ue014") == "a/a01/branch_1_pool_1"
    assert in_sight(window, item(window, "a/a01/branch_1_pool_1"))
    outline = item(window, "a/a01/branch_1_pool_1").value_of_css_property("outline-style")
    assert outline == "solid"
    assert keys(window, "\ue012") == "a/a01"
    assert keys(window, "\ue012", "\ue012") == "a"
    assert keys(window, "\ue010") == "head"
    assert keys(window, "/") == "search"


def test_items_say_what_they_are(window: Any) -> None:
    assert item(window, "a").get_attribute("role") == "treeitem"
    spoken = item(window, "b").get_attribute("aria-label")
    assert spoken.startswith("Inception-B, 7 blocks, output 17×17×1024")
    assert window.find_element("css selector", "[role=tree]").get_attribute("aria-label") == "Inception-v4 (paper)"
    fields = window.find_elements("css selector", "button, select, input")
    assert all(field.accessible_name for field in fields if field.is_displayed())


def test_two_variants_stand_side_by_side_with_their_differences(window: Any) -> None:
    choose(window, "network", "Inception-ResNet-v2")
    choose(window, "compare", "other")
    left, right = item(window, "a"), item(window, "a", 1)
    assert left.location["y"] == right.location["y"]
    assert edges(window, left)["right"] < edges(window, right)["left"]
    item(window, "b").click()
    item(window, "b/b01").click()
    for side in (0, 1):
        assert in_sight(window, item(window, "b/b01/branch_2_conv_2", side))
    window.find_element("id", "fold").click()
    left, right = item(window, "a"), item(window, "a", 1)
    assert "differs" in left.get_attribute("class")
    assert left.find_element("css selector", ".times.changed").text == "× 5"
    assert right.find_element("css selector", ".times.changed").text == "× 6"
    assert "differs" not in item(window, "stem").get_attribute("class")
    assert "differs" in item(window, "final", 1).get_attribute("class")
    assert "blocks 5 → 6" in window.find_element("id", "panel").text
    assert "blocks 5 → 6" in left.get_attribute("aria-label")


def test_a_branch_in_another_place_is_no_difference_but_its_place(window: Any) -> None:
    choose(window, "compare", "slim")
    item(window, "b").click()
    item(window, "b/b01").click()
    marked = [
        {
            found.get_attribute("data-id")
            for found in window.find_elements("css selector", f".op.differs[data-side='{side}']")
        }
        for side in (0, 1)
    ]
    for side, branch in enumerate((4, 3)):
        assert marked[side] == {"b/b01/concat", *(f"b/b01/branch_{branch}_conv_{number}" for number in (2, 3, 4, 5))}
    item(window, "b/b01/concat").click()
    assert "joins branches 1, 2, 3, 4 → 2, 3, 4, 1" in window.find_element("id", "panel").text


def test_zoom_and_pan(window: Any) -> None:
    def transform() -> list[float]:
        return window.execute_script("const t = vendor.zoomTransform(stage); return [t.x, t.y, t.k]")

    before = transform()
    window.find_element("id", "zoom-in").click()
    assert transform()[2] > before[2]
    window.find_element("id", "fit").click()
    assert in_sight(window, item(window, "head"))
    from selenium.webdriver.common.action_chains import ActionChains

    x, y, k = transform()
    ActionChains(window).move_to_element_with_offset(
        window.find_element("id", "stage"), -400, 0
    ).click_and_hold().move_by_offset(60, 40).release().perform()
    moved = transform()
    assert moved == pytest.approx([x + 60, y + 40, k])
    window.execute_script(
        "stage.dispatchEvent(new WheelEvent('wheel', {deltaY: -200, clientX: 300, clientY: 300, cancelable: true}))"
    )
    assert transform()[2] > k


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_readable_on_a_phone(html: Path, tmp_path: Path, dark: bool) -> None:
    with opened(html, tmp_path, width=390, height=844, dark=dark) as phone:
        assert phone.execute_script("return document.documentElement.scrollWidth") <= 390
        card = item(phone, "stem")
        assert all(in_sight(phone, each) for each in phone.find_elements("css selector", "[data-id]"))
        assert edges(phone, card)["right"] <= 390
        assert "Tab" not in phone.find_element("id", "panel").text, "a phone has no keys"
        assert "Keys" not in phone.find_element("id", "panel").text
        assert phone.execute_script("return vendor.zoomTransform(stage).k") > 0.8
        for button in phone.find_elements("css selector", "button"):
            assert button.rect["x"] + button.rect["width"] <= 390
        ink = phone.find_element("tag name", "body").value_of_css_property("color")
        assert ink == ("rgba(230, 237, 243, 1)" if dark else "rgba(31, 35, 40, 1)")
        card.click()
        assert "stem/stem/conv_1" in names(phone)
        phone.find_element("id", "fold").click()
        choose(phone, "compare", "Inception-ResNet-v2 · slim")
        assert all(in_sight(phone, each) for each in phone.find_elements("css selector", "[data-id]"))
        cut = [node.text for node in phone.find_elements("css selector", ".part > *, header *") if cut_off(phone, node)]
        assert cut == []


def cut_off(window: Any, node: Any) -> bool:
    """Whether a text is wider than its card or the window, or runs into what stands beside it."""
    return window.execute_script(
        """
        const [node] = arguments, box = node.getBoundingClientRect(), card = node.closest(".part");
        if (!box.width) return false;
        if (box.right > innerWidth || (card && box.right > card.getBoundingClientRect().right)) return true;
        const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
        const beside = card ? [...card.children].filter((other) => other !== node) : [];
        return beside.some((other) => !apart(box, other.getBoundingClientRect()));
        """,
        node,
    )


def test_a_text_of_the_users_is_never_markup(window: Any) -> None:
    choose(window, "network", "Inception-ResNet-v1")
    choose(window, "variant", f"{EVIL}, other")
    assert window.find_element("id", "title").text == EVIL
    assert EVIL in window.find_element("id", "panel").text
    assert window.find_elements("css selector", "#world img, #panel img, header img") == []


def test_the_page_is_small_and_says_the_same_twice() -> None:
    graphs = [graph_of(network) for variants in networks.NETWORKS.values() for network in variants.values()]
    assert page(graphs) == page(graphs)
    assert len(page(graphs).encode()) < 1_000_000
    assert data_of(graphs[:1] * 2)["differences"] == {"0-1": [], "1-0": []}


def test_what_is_borrowed_is_named_with_its_version_and_licence() -> None:
    folder = files("inception_resnet_keras.diagrams") / "assets" / "vendor"
    licences = (folder / "LICENSES.txt").read_text(encoding="utf-8")
    packages = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    bundled = {name.removeprefix("node_modules/"): each for name, each in packages.items() if not each.get("dev")}
    for name, package in bundled.items():
        assert not name or f"{name} {package['version']} ({package['license']})" in licences
