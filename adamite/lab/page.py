"""A web page of tables and pictures that needs nothing outside its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from adamite.lab import plots


@dataclass(frozen=True)
class Table:
    """A table of text, for a terminal or a page."""

    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def table(content: Table, *, swatches: bool = False) -> str:
    """The table in HTML; with swatches, each row starts with its colour in the pictures."""
    rows = []
    for i, row in enumerate(content.rows):
        cells = [escape(cell) for cell in row]
        if swatches:
            cells[0] = f'<i class="line{i}"></i>{cells[0]}'
        rows.append("".join(f"<td>{cell}</td>" for cell in cells))
    head = "".join(f"<th>{escape(header)}</th>" for header in content.headers)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def picture(name: str, caption: str) -> str:
    """A picture written by ``plots.save``, light or dark as the reader prefers."""
    return (
        "<figure><picture>"
        f'<source srcset="{name}-dark.png" media="(prefers-color-scheme: dark)">'
        f'<img src="{name}.png" alt="{escape(caption)}">'
        f"</picture><figcaption>{escape(caption)}</figcaption></figure>"
    )


def write(path: Path, **parts: str) -> None:
    """Fill in the template, page.html; every part is HTML."""
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    page = template.substitute(parts, light=_colours(plots.LIGHT), dark=_colours(plots.DARK))
    path.write_text(page, encoding="utf-8")


def _colours(theme: plots.Theme) -> str:
    return " ".join(f".line{i}{{background:{line}}}" for i, line in enumerate(theme.lines))
