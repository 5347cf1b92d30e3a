"""Texts as Graphviz's HTML-like labels, each with its size. Every text is escaped here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from textwrap import wrap

import pydot

from . import svg
from .graph import Graph, Op, Part, inside, legend, part_kind, shape_text, short
from .layout import Arrangement, Box, Line, Size, height_of, in_columns, place
from .notes import marks_in
from .svg import BORDER, CARD, FONT, INK, KINDS, MUTED, SMALL, TEXT, TITLE, TRACK, Canvas

LEADING = 1.32  # a line's height, of its letters'
TALL = 1.8  # in a script whose signs stand above each other
SLACK = 1.04  # Graphviz rounds a letter's advance up


@dataclass(frozen=True)
class Text:
    """One line of text in one style."""

    text: str
    size: int
    colour: str = INK.light
    bold: bool = False
    font: str = FONT

    @property
    def width(self) -> float:
        return svg.width(self.text, self.size, bold=self.bold, font=self.font) * SLACK

    @property
    def height(self) -> float:
        return self.size * (TALL if svg.has_other_scripts(self.text) else LEADING)

    def __str__(self) -> str:
        if not self.text:
            return ""
        face = f' FACE="{self.font}"' if self.font != FONT else ""
        inner = f'<FONT{face} POINT-SIZE="{self.size}" COLOR="{self.colour}">{escape(self.text)}</FONT>'
        return f"<B>{inner}</B>" if self.bold else inner


@dataclass(frozen=True)
class Label:
    """Lines of text, one below the other."""

    lines: Sequence[Text]
    left: bool = False

    @property
    def size(self) -> Size:
        """Pixels; Graphviz gives a table two on each side."""
        return max(line.width for line in self.lines) + 8, sum(round(line.height) for line in self.lines) + 4

    def __str__(self) -> str:
        align = {"ALIGN": "LEFT", "WIDTH": round(self.size[0]) - 4} if self.left else {}
        return table("".join(f"<TR>{cell(line, HEIGHT=round(line.height), **align)}</TR>" for line in self.lines))


def table(rows: str, **attributes: object) -> str:
    given = {"BORDER": 0, "CELLBORDER": 0, "CELLSPACING": 0, "CELLPADDING": 0} | attributes
    return f"<TABLE{_attributes(given)}>{rows}</TABLE>"


def cell(inner: object, **attributes: object) -> str:
    return f"<TD{_attributes(attributes)}>{inner}</TD>"


def _attributes(given: dict[str, object]) -> str:
    return "".join(f' {key}="{value}"' for key, value in given.items())


PAD = (24.0, 14.0)  # around an operation's words
LEAST = 104.0  # an operation's width
APART = 20.0  # between the title, the picture and the footnotes
CLOSE = 6.0  # between the legend and the footnotes
A4 = (297.0, 210.0)  # millimetres
NARROW = 560.0  # a page's least width, which its title has room on
CARD_HEIGHT, CARD_GAP, STRIP, INDENT = 46.0, 20.0, 6.0, 26
COLUMNS = (272, 68, 120, 186, 174)  # of the overview: name, times, output, parameters, multiply-adds
BAR = 112
SPACER = '<FONT POINT-SIZE="4"> <BR ALIGN="LEFT"/></FONT>'  # between two lines of a cell


def overview(graph: Graph, *, upwards: bool = False) -> pydot.Dot:
    """One card per part with its shape, parameters and MACs, as in the paper's Figures 9 and 15."""
    canvas = Canvas(graph.name)
    width = INDENT + sum(COLUMNS) + CARD_GAP
    down = put(canvas, "title", heading(graph, graph.figure), 0)
    row = Box((width - CARD_GAP) / 2, down + 14, width - CARD_GAP, 40)
    words = [Text(word, SMALL, MUTED.light) for word in ("", "", "output", "parameters", "multiply-adds")]
    canvas.box("columns", _columns([[word] for word in words]), row)
    cards = _stacked(graph.parts, width)
    cards = (cards.upside_down() if upwards else cards).moved(0, down + 26)
    for part in graph.parts:
        _draw_card(canvas, graph, part, cards.boxes[part.key])
    for line in cards.lines:
        canvas.line(line.tail, line.head, line)
    down += 26 + cards.height
    words = [
        Text(word, TEXT, bold=True) for word in ("whole network", "", "", f"{graph.parameters:,}", short(graph.macs))
    ]
    canvas.box("total", _columns([[word] for word in words]), replace(row, y=down + 18))
    marks = "".join(part.note for part in graph.parts)
    return canvas.finish(width, put(canvas, "notes", footnotes(graph, width, marks), down + 34 + APART))


def modules(graph: Graph, keys: Sequence[str], *, upwards: bool = False) -> pydot.Dot:
    """Each part as drawn in the paper's Figures 3 to 8 and 10 to 19; several parts in columns, from left to right."""
    canvas = Canvas(graph.name)
    alone = len(keys) == 1
    sheets = [_sheet(graph, graph.part(key), upwards=upwards, alone=alone) for key in keys]
    top = 0.0 if alone else put(canvas, "title", heading(graph, "every module"), 0) + 2 * APART
    columns = in_columns(sheets, 3 * APART, 2 * APART, _print_scale)
    left = 0.0
    for column in columns:
        width, down = max(sheet.width for sheet in column), top
        for sheet in column:
            _draw_sheet(canvas, graph, sheet, Box(left + width / 2, down + sheet.height / 2, width, sheet.height))
            down += sheet.height + 3 * APART
        left += width + 2 * APART
    height = top + max(height_of(column, 3 * APART) for column in columns)
    if not alone:  # a legend for all
        height = put(canvas, "legend", _legend([op for sheet in sheets for op in sheet.part.ops]), height + 2 * APART)
    return canvas.finish(left - 2 * APART, height)


@dataclass(frozen=True)
class Sheet:
    """A module with its title above it, and its legend and footnotes below. width: The least that it needs."""

    part: Part
    title: Label
    module: Arrangement
    words: tuple[tuple[str, Label], ...]
    width: float

    @property
    def height(self) -> float:
        words = sum(label.size[1] + CLOSE for _, label in self.words)
        return self.title.size[1] + APART + self.module.height + (words + APART - CLOSE if words else 0)


def _sheet(graph: Graph, part: Part, *, upwards: bool, alone: bool) -> Sheet:
    title, module = _about(graph, part, alone=alone), module_layout(graph, part, upwards=upwards)
    width = max(NARROW if alone else title.size[0], module.width)
    words = {"legend": _legend(part.ops) if alone else None, "notes": footnotes(graph, width, marks_in(part))}
    return Sheet(part, title, module, tuple((name, label) for name, label in words.items() if label), width)


def _draw_sheet(canvas: Canvas, graph: Graph, sheet: Sheet, at: Box) -> None:
    """Texts at the left, the module in the middle."""
    key = sheet.part.key
    down = put(canvas, f"{key}.title", sheet.title, at.top, at.left) + APART
    draw_module(canvas, graph, sheet.part, sheet.module.moved(at.x - sheet.module.width / 2, down))
    down += sheet.module.height + APART
    for name, label in sheet.words:
        down = put(canvas, f"{key}.{name}", label, down, at.left) + CLOSE


def _legend(ops: Sequence[Op]) -> Label | None:
    lines = legend(ops)
    return Label([Text(line, SMALL, MUTED.light) for line in lines], left=True) if lines else None


def _print_scale(width: float, height: float) -> float:
    """The factor by which a sheet shrinks to fit a page of A4, in the better orientation."""
    long, short_side = A4
    return min(max(width / long, height / short_side), max(width / short_side, height / long))


def module_layout(graph: Graph, part: Part, *, upwards: bool) -> Arrangement:
    sizes = {op.name: _room(module_label(graph, part, op)) for op in part.ops}
    if part.reads:
        sizes[""] = _room(reads_label(graph, part))
    module = place(part.ops, sizes)
    return module.upside_down() if upwards else module


def draw_module(canvas: Canvas, graph: Graph, part: Part, module: Arrangement) -> None:
    def name(op: str) -> str:
        return f"{part.key}.{op or 'reads'}"

    looks = {"shape": "box", "style": "rounded,dashed", "color": KINDS["plain"].line.light}
    canvas.box(name(""), str(reads_label(graph, part)), module.boxes[""], **looks)
    for op in part.ops:
        canvas.box(name(op.name), str(module_label(graph, part, op)), module.boxes[op.name], **look(op))
    for line in module.lines:
        canvas.line(name(line.tail), name(line.head), line)


def reads_label(graph: Graph, part: Part) -> Label:
    """The label of a module's input."""
    before = graph.part(part.reads)
    again = f" or {part.title}" if part.times > 1 else ""
    return Label([Text(before.title + again, SMALL, MUTED.light), Text(shape_text(before.shape), TEXT)])


def module_label(graph: Graph, part: Part, op: Op) -> Label:
    """The paper's text, and the shape if the size of the map changes or the module ends."""
    shapes = {other.name: other.shape for other in part.ops} | {"": graph.input_of(part)}
    resized = shapes[op.inputs[0]][:-1] != op.shape[:-1]
    lines = [Text(op.title, TEXT, bold=True)]
    if op.detail:
        lines.append(Text(op.detail, TEXT - 1))
    if (resized or op is part.ops[-1]) and shape_text(op.shape) != op.detail:
        lines.append(Text(f"→ {shape_text(op.shape)}", SMALL, MUTED.light))
    return Label(lines)


def look(op: Op) -> dict[str, str]:
    kind = KINDS[op.kind]
    return {"shape": "box", "style": "rounded,filled", "fillcolor": kind.fill.light, "color": kind.line.light}


def heading(graph: Graph, what: str) -> Label:
    facts = [graph.variant, what, f"{graph.parameters:,} parameters", f"{short(graph.macs)} multiply-adds"]
    return _titled(graph.title, [facts])


def _about(graph: Graph, part: Part, *, alone: bool) -> Label:
    """A module's title: its name, its place, its input and output shapes, and its cost.

    Beside other modules it is narrow, and the network's name is in the title of the page.
    """
    times, each = (f" × {part.times}", " each") if part.times > 1 else ("", "")
    ways = f"{shape_text(graph.input_of(part))} → {shape_text(part.shape)}"
    costs = [f"{short(part.parameters)} parameters", f"{short(part.macs)} multiply-adds{each}"]
    of_whole = "".join(mark for mark in part.note if mark not in {op.note for op in part.ops})
    facts = (
        [[f"{graph.title} ({graph.variant})", part.figure], [ways, *costs]] if alone else [[part.figure], [ways], costs]
    )
    return _titled(part.title + of_whole + times, facts)


def _titled(title: str, facts: Sequence[Sequence[str]]) -> Label:
    lines = [words for line in facts if (words := " · ".join(fact for fact in line if fact))]
    return Label([Text(title, TITLE, bold=True), *(Text(line, TEXT - 1, MUTED.light) for line in lines)], left=True)


def footnotes(graph: Graph, width: float, marks: Collection[str] | None = None) -> Label | None:
    """The footnotes with these marks, or all if no marks are given; None if there are no footnotes."""
    characters = round(width / 6.1)
    lines = [
        Text(line, SMALL, MUTED.light)
        for mark, text in graph.notes
        if marks is None or mark in marks
        for line in wrap(f"{mark} {text}", characters)
    ]
    return Label(lines, left=True) if lines else None


def put(canvas: Canvas, name: str, label: Label | None, down: float, left: float = 0.0) -> float:
    """Place a label at the left margin, or at `left`; returns its end."""
    if label is None:
        return down - APART
    width, height = label.size
    canvas.box(name, str(label), Box(left + width / 2, down + height / 2, width, height))
    return down + height


def _room(label: Label) -> Size:
    width, height = label.size
    return max(width + PAD[0], LEAST), height + PAD[1]


def _stacked(parts: Sequence[Part], width: float) -> Arrangement:
    """The cards of the overview; a line that skips a card goes around it."""
    boxes: dict[str, Box] = {}
    down = 0.0
    for part in parts:
        height = CARD_HEIGHT + sum(round(line.height) for line in _subtitle(part)[1:])
        boxes[part.key] = Box((width - CARD_GAP) / 2, down + height / 2, width - CARD_GAP, height)
        down += height + CARD_GAP
    lines = []
    for before, part in pairwise(parts):
        tail, head = boxes[part.reads], boxes[part.key]
        if before.key == part.reads:
            points: tuple[tuple[float, float], ...] = ((tail.x, tail.bottom), (head.x, head.top))
        else:
            points = ((tail.right, tail.y), (width, tail.y), (width, head.y), (head.right, head.y))
        lines.append(Line(part.reads, part.key, points))
    return Arrangement(boxes, tuple(lines), width, down - CARD_GAP)


def _draw_card(canvas: Canvas, graph: Graph, part: Part, place: Box) -> None:
    """Draw a stage of the overview: its texts, then the bars and a strip in the colour of its kind."""
    counts = _counts(part)
    name = [Text(part.title + part.note, TEXT + 1, bold=True), *_subtitle(part)]
    times = Text(f"× {part.times}" if part.times > 1 else "", TEXT + 1, bold=True)
    numbers = [Text(short(count) if count else "–", TEXT - 1) for count in counts]
    columns = [name, [times], [Text(shape_text(part.shape), TEXT)], *([number] for number in numbers)]
    words = _columns(columns, BAR + 10, height=round(place.height) - 10)
    looks = {"shape": "box", "style": "rounded,filled", "fillcolor": CARD.light, "color": BORDER.light}
    canvas.box(part.key, words, place, **looks)
    strip = Box(place.left + 12, place.y, STRIP, place.height - 16)
    canvas.block(f"{part.key}.kind", strip, KINDS[part_kind(part)].line.light)
    most = [max(each) for each in zip(*(_counts(other) for other in graph.parts), strict=True)]
    for what, column, number, largest in zip(("parameters", "macs"), (3, 4), counts, most, strict=True):
        left = place.left + INDENT + sum(COLUMNS[:column])
        filled = BAR * number / largest if largest else 0.0
        canvas.block(f"{part.key}.{what}", Box(left + BAR / 2, place.y, BAR, 9), TRACK.light)
        if filled >= 0.5:
            canvas.block(
                f"{part.key}.{what}.bar", Box(left + filled / 2, place.y, filled, 9), KINDS["weights"].line.light
            )


def _subtitle(part: Part) -> list[Text]:
    """The paper's figure, or the content of the stage, in lines that fit the first column."""
    lines = [""]
    for words in inside(part).split(", "):
        longer = f"{lines[-1]}, {words}" if lines[-1] else words
        if Text(longer, SMALL).width < COLUMNS[0]:
            lines[-1] = longer
        else:
            lines = [*lines[:-1], f"{lines[-1]},", words]
    return [Text(line, SMALL, MUTED.light) for line in lines]


def _counts(part: Part) -> tuple[int, int]:
    """Parameters and multiply-adds of the whole run; 0 if they are unknown."""
    return part.parameters * part.times, (part.macs or 0) * part.times


def _columns(columns: Sequence[Sequence[Text]], indent: float = 0, height: int = 36) -> str:
    """Words in the overview's columns; indent: of the last two, to leave room for the bars."""
    cells = [_blank(INDENT, height)]
    for number, (lines, width) in enumerate(zip(columns, COLUMNS, strict=True)):
        words = SPACER.join(f'{line}<BR ALIGN="LEFT"/>' for line in lines if line.text)
        before = indent if number > 2 else 0
        cells += [_blank(before, height)] if before else []
        size = {"WIDTH": round(width - before), "HEIGHT": height, "FIXEDSIZE": "TRUE"}
        cells.append(cell(words, **size, ALIGN="LEFT", BALIGN="LEFT"))
    return table(f"<TR>{''.join(cells)}</TR>")


def _blank(width: float, height: int) -> str:
    return cell("", WIDTH=round(width), HEIGHT=height, FIXEDSIZE="TRUE")
