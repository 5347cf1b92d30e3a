"""Tables as text for papers: Markdown, and LaTeX with the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from ..common.console import printable


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown. The first column holds names, the others numbers."""
    rule = "| --- |" + " ---: |" * (len(header) - 1)
    return "\n".join([_markdown_row(header), rule, *map(_markdown_row, rows)])


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_text, cells)) + " |"


def markdown_text(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    for sign in "\\|*_`<>[]":
        text = text.replace(sign, f"\\{sign}")
    return printable(text.replace("\n", " "))


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "–": "--",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def latex_text(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(sign, sign) for sign in printable(text))


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]], comments: Sequence[str] = ()) -> str:
    """A `tabular` with rules of the package booktabs, below its comments."""
    lines = [" & ".join(map(latex_text, cells)) + r" \\" for cells in (header, *rows)]
    columns = "l" + "r" * (len(header) - 1)
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
