"""Reports as self-contained HTML files, with text, tables, line charts and images.

Every function but `write_report` returns a piece of HTML; text that is passed to them is escaped.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from maskgan_jax.files import encode_png, write_text

# Dark enough on white, and distinct for the colour-blind (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

_STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #222; background: #f4f5f7; margin: 0 }
main { max-width: 1020px; margin: 0 auto; padding: 2rem 1rem 4rem }
h1 { font-size: 1.9rem; margin: 0 0 .3rem }
h2 { font-size: 1.2rem; margin: 0 0 .8rem }
section { background: #fff; border-radius: 10px; padding: 1.3rem 1.5rem; margin: 1.2rem 0; box-shadow: 0 1px 4px #0002 }
p { margin: .5rem 0; max-width: 46rem }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .9rem; text-align: right; border-bottom: 1px solid #e3e5e9 }
th { font-weight: 600; border-bottom: 2px solid #c4c8cf; vertical-align: bottom }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
table.words th, table.words td { text-align: left; vertical-align: top }
img { max-width: 100%; height: auto; display: block }
figure { margin: .8rem 0; overflow-x: auto }
figcaption { color: #667; font-size: .88rem; margin-top: .4rem }
figure.chart { display: inline-block; vertical-align: top; width: 450px; max-width: 100%; margin-right: 1rem }
svg text { font-size: 12px; fill: #556 }
pre { overflow-x: auto; background: #f4f5f7; padding: .8rem; font-size: .85rem; line-height: 1.4 }
"""


class Section(NamedTuple):
    """One part of a report."""

    title: str
    html: str


def write_report(path: str | os.PathLike, title: str, introduction: str, sections: Iterable[Section]) -> None:
    """Writes a report, whole or not at all.

    Args:
      path: the HTML file.
      title: its heading, as text.
      introduction: HTML below the heading.
      sections: what follows, in this order.

    Raises:
      UserError: the file cannot be written.
    """
    body = "\n".join(f"<section>\n<h2>{escape(section.title)}</h2>\n{section.html}\n</section>" for section in sections)
    write_text(
        path,
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{introduction}\n{body}\n</main>\n</body>\n</html>\n",
    )


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def folded(label: str, text: str) -> str:
    """Preformatted text that unfolds when its label is clicked."""
    return f"<details><summary>{escape(label)}</summary><pre>{escape(text)}</pre></details>"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False) -> str:
    """A table; the columns after the first are right-aligned, for numbers, unless they hold `words`."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in headings)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    kind = ' class="words"' if words else ""
    return f"<table{kind}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def image(picture: np.ndarray, caption: str) -> str:
    """An image, `[H, W, 3]` RGB uint8, with a caption below."""
    data = base64.b64encode(encode_png(picture)).decode()
    words = escape(caption)
    return f'<figure><img alt="{words}" src="data:image/png;base64,{data}"><figcaption>{words}</figcaption></figure>'


def bar(parts: Mapping[str, float], caption: str) -> str:
    """A bar divided in proportion to its parts; the key below gives each part's number and percentage.

    Args:
      parts: {name: size}, not negative.
      caption: below the bar, says what the sizes are.
    """
    whole, width = sum(parts.values()) or 1, 900
    pieces, keys, left = [], [], 0.0
    for number, (name, size) in enumerate(parts.items()):
        colour = COLOURS[number] if number < len(COLOURS) else "#999"
        pieces.append(f'<rect x="{left:.2f}" y="0" width="{width * size / whole:.2f}" height="26" fill="{colour}"/>')
        keys.append(f'<span style="color:{colour}">&#9644;</span> {escape(name)} {size:.1f} ({size / whole:.0%})')
        left += width * size / whole
    label = escape(caption)
    return (
        f'<figure><svg viewBox="0 0 {width} 26" role="img" aria-label="{label}">{"".join(pieces)}</svg>'
        f"<figcaption>{' &nbsp; '.join(keys)}<br>{label}</figcaption></figure>"
    )


def line_chart(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], caption: str) -> str:
    """A chart of several lines over the steps of a training; the y axis starts at 0.

    Args:
      lines: {name: (steps, y)}, y not negative.
      caption: below the chart, says what y is.

    Returns:
      HTML with the chart as SVG.
    """
    left, right, top, bottom = 48, 440, 12, 220
    x_end, y_max = (max((value for line in lines.values() for value in line[axis]), default=0) or 1 for axis in (0, 1))
    x_step, y_step = _round_step(x_end), _round_step(y_max)
    y_end = y_step * np.ceil(y_max / y_step)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / x_end, bottom - (bottom - top) * y / y_end

    parts = []
    for y in np.arange(0, y_end + y_step / 2, y_step):
        height = place(0, y)[1]
        parts.append(f'<path d="M{left} {height:.1f}H{right}" stroke="#e3e5e9"/>')
        parts.append(f'<text x="{left - 6}" y="{height + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in np.arange(0, x_end + x_step / 1000, x_step):
        parts.append(f'<text x="{place(x, 0)[0]:.1f}" y="{bottom + 16}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text x="{right}" y="{bottom + 32}" text-anchor="end">step</text>')
    keys = []
    for number, (name, (x, y)) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in zip(x, y, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        keys.append(f'<span style="color:{colour}">&#9644;</span> {escape(name)}')
    chart = f'<svg viewBox="0 0 450 256" width="450" height="256" role="img">{"".join(parts)}</svg>'
    return f'<figure class="chart">{chart}<figcaption>{" &ensp; ".join(keys)}<br>{escape(caption)}</figcaption></figure>'


def _round_step(end: float) -> float:
    """1, 2 or 5 times a power of ten, so that three to eight steps go from 0 to `end` > 0."""
    power = 10.0 ** np.floor(np.log10(end / 3))
    return float(power * max(factor for factor in (1, 2, 5) if factor * power <= end / 3))
