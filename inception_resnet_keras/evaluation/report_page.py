"""A self-contained HTML page of sections: without scripts, in the reader's light or dark theme, and printable.

Jinja escapes all content, and names are made printable. The page's Content-Security-Policy permits only its own style
and embedded images, so that no name in it can have an effect.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import __version__
from ..common.console import printable
from ..common.errors import InputError
from ..common.files import read_start, write_text
from ..common.packages import required

GENERATOR = "inception_resnet_keras report"
MARK = f'<meta name="generator" content="{GENERATOR}'


@dataclass(frozen=True)
class Line:
    """A paragraph. strong: Whether to emphasise it."""

    text: str
    strong: bool = False
    kind: str = "line"


@dataclass(frozen=True)
class TableBlock:
    """A table.

    Attributes:
        header: The names of the columns.
        rows: The cells of each row.
        caption: The text above the table.
        texts: The number of leading columns that hold text; the others hold numbers.
        columns: Whether the rows may be set in two columns if the page is wide enough.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    texts: int = 1
    columns: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """An image.

    Attributes:
        content: The bytes of an SVG or a PNG.
        alt: A description, for readers who cannot see the image.
        width: The maximum width in pixels; 0 for that of the page.
    """

    content: bytes
    alt: str
    width: int = 0
    kind: str = "picture"

    @property
    def address(self) -> str:
        kind = "png" if self.content.startswith(b"\x89PNG") else "svg+xml"
        return f"data:image/{kind};base64,{b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Code:
    """Text to copy, such as a command."""

    text: str
    kind: str = "code"


Block = Line | TableBlock | Picture | Code


@dataclass
class Section:
    """A section of the page; sections without blocks are left out."""

    title: str
    blocks: list[Block] = field(default_factory=list)


STYLE = """
:root{color-scheme:light dark;--paper:#fefefe;--ink:#1f2328;--muted:#57606a;--line:#d8dee4;--card:#f6f8fa;
--link:#0b62a4}
@media screen and (prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--muted:#a1abb7;--line:#30363d;
--card:#161b22;--link:#58a6e8}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:1060px;margin:0 auto;padding:24px 20px 64px}
h1{font-size:1.75rem;line-height:1.25;margin:.5em 0 .2em}
h2{font-size:1.25rem;margin:2.2em 0 .6em;padding-top:.5em;border-top:1px solid var(--line)}
p{margin:.45em 0;max-width:75ch}
.about,figcaption,caption{color:var(--muted)}
.strong{font-size:1.1rem;font-weight:600}
nav ul{padding:0;margin:1em 0;display:flex;flex-wrap:wrap;gap:.3em 1.1em;list-style:none}
a{color:var(--link)}
.wide{overflow-x:auto;margin:1em 0}
table{border-collapse:collapse;font-size:.92rem}
caption{text-align:left;padding:.2em 0 .5em}
th,td{padding:4px 14px 4px 0;text-align:right;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums;
vertical-align:top;overflow-wrap:normal}
.text{text-align:left;overflow-wrap:anywhere;min-width:6em}td.text{unicode-bidi:plaintext}
.columns{columns:2 22em}.columns table{display:block}.columns thead{display:none}.columns tbody,
.columns caption{display:block}
.columns tr{display:flex;break-inside:avoid}.columns td{flex:1;min-width:0}.columns caption{column-span:all}
th{font-weight:600}
figure{margin:1.2em 0}
img{display:block;max-width:100%;height:auto}
.w420{width:420px}.w560{width:560px}.w720{width:720px}.w900{width:900px}
pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:10px 14px;white-space:pre-wrap;
font:.9rem/1.5 ui-monospace,monospace}
@media print{body{font-size:10.5pt}main{max-width:none;padding:0}nav{display:none}h2,h2+p{break-after:avoid}
figure,tr,pre{break-inside:avoid}.wide{overflow:visible}th,td{padding-right:8px}a{color:inherit}}
@page{margin:18mm 16mm}
"""

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'sha256-{{ hash }}'; \
base-uri 'none'; form-action 'none'">
<meta name="generator" content="{{ generator }} {{ version }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
{% if about %}<p class="about">{{ about }}</p>{% endif %}
<nav aria-label="Contents"><ul>
{% for section in sections %}<li><a href="#part-{{ loop.index }}">{{ section.title }}</a></li>
{% endfor %}</ul></nav>
{% for section in sections %}<section>
<h2 id="part-{{ loop.index }}">{{ section.title }}</h2>
{% for block in section.blocks %}{% if block.kind == "line" %}
<p{% if block.strong %} class="strong"{% endif %}>{{ block.text | printable }}</p>
{% elif block.kind == "table" %}
<div class="wide{% if block.columns %} columns{% endif %}"><table>
{% if block.caption %}<caption>{{ block.caption | printable }}</caption>{% endif %}
<thead><tr>{% for cell in block.header -%}
<th scope="col"{% if loop.index <= block.texts %} class="text"{% endif %}>{{ cell | printable }}</th>
{%- endfor %}</tr></thead>
<tbody>{% for row in block.rows %}<tr>{% for cell in row -%}
<td{% if loop.index <= block.texts %} class="text" dir="auto"{% endif %}>
{%- if loop.index <= block.texts %}{{ cell | printable }}
{%- else %}{{ cell | printable | replace("–", "\u2060–\u2060") }}
{%- endif %}</td>
{%- endfor %}</tr>
{% endfor %}</tbody></table></div>
{% elif block.kind == "picture" %}
<figure><img{% if block.width %} class="w{{ block.width }}"{% endif %} src="{{ block.address }}" \
alt="{{ block.alt | printable }}"></figure>
{% else %}
<pre>{{ block.text | printable }}</pre>
{% endif %}{% endfor %}</section>
{% endfor %}</main>
</body>
</html>
"""


def page(title: str, sections: Sequence[Section], about: str = "") -> str:
    """The page as HTML. title, about: The heading, and a line below it."""
    environment = required("jinja2", "report.html").Environment(autoescape=True)
    environment.filters["printable"] = printable
    digest = b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return str(
        environment.from_string(TEMPLATE).render(
            title=printable(title),
            about=printable(about),
            sections=[section for section in sections if section.blocks],
            style=required("markupsafe", "report.html").Markup(STYLE),
            hash=digest,
            generator=GENERATOR,
            version=__version__,
        )
    )


def write_page(path: Path, title: str, sections: Sequence[Section], about: str = "") -> None:
    """Write the page in one step. An earlier report is replaced.

    Raises:
        InputError: `path` exists and is not a report of this package.
    """
    require_own(path)
    write_text(path, page(title, sections, about))


def require_own(path: Path) -> None:
    """Raise InputError if the file exists and is not a report of this package, since it would be overwritten."""
    try:
        start = read_start(path, 2000)
    except FileNotFoundError:
        return
    if MARK.encode() not in start:
        raise InputError(f"{path}: already exists and is not a report of this program; move it: it is not overwritten")
