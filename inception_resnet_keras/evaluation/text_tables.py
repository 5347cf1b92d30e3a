"""Tables as text for papers: Markdown, and LaTeX with the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..common.console import printable


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table in Markdown. texts: The number of leading columns that hold names; the others hold numbers."""
    rule = "|" + " --- |" * texts + " ---: |" * (len(header) - texts)
    return "\n".join([_markdown_row(header), rule, *map(_markdown_row, rows)])


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_text, cells)) + " |"


def markdown_text(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    for sign in "\\|*_`<>[]&~$":
        text = text.replace(sign, f"\\{sign}")
    return printable(text.replace("\n", " "))


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",  # a dash in LaTeX's first encoding
    "[": "{[}",  # not an option of the row's end before it
    "*": "{*}",
    "\0": "{}",
    "–": "--",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def latex_text(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    apart = re.sub("-(?=-)", "-\0", printable(text))  # LaTeX makes a dash of two hyphens
    return "".join(_LATEX.get(sign, sign) for sign in apart)


def latex_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], comments: Sequence[str] = (), texts: int = 1
) -> str:
    """A `tabular` with rules of the package booktabs, below its comments. texts: As for `markdown_table`."""
    lines = [" & ".join(map(latex_text, cells)) + r" \\" for cells in (header, *rows)]
    columns = "l" * texts + "r" * (len(header) - texts)
    return "\n".join(
        [
            *(f"% {latex_text(comment)}" for comment in comments),
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
