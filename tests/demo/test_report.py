import base64
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from maskgan_jax.demo.report import Section, bar, folded, image, line_chart, paragraph, table, write_report
from maskgan_jax.errors import UserError
from maskgan_jax.files import decode_image


def test_text_is_escaped(tmp_path):
    bad = "<b>&\"'"
    html = paragraph(bad) + folded(bad, bad) + table([bad], [[bad]]) + image(np.zeros((2, 2, 3), np.uint8), bad)
    write_report(tmp_path / "r.html", bad, html + line_chart({bad: ([1], [1])}, bad), [Section(bad, html)])
    assert "<b>" not in (tmp_path / "r.html").read_text() and bad not in html


def test_sections_in_order(tmp_path):
    write_report(
        tmp_path / "new" / "r.html", "A title", paragraph("The beginning"), [Section("One", "<i>1</i>"), Section("Two", "2")]
    )
    text = (tmp_path / "new" / "r.html").read_text()
    assert text.startswith("<!DOCTYPE html>") and text.count("<section>") == 2
    places = [text.index(words) for words in ("<h1>A title", "The beginning", "<h2>One", "<i>1</i>", "<h2>Two")]
    assert places == sorted(places)


def test_unwritable_report(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_report(tmp_path / "file" / "r.html", "", "", [])


def test_picture_is_inside():
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    data = re.search('base64,([^"]*)"', image(picture, "words"))[1]
    np.testing.assert_array_equal(decode_image(base64.b64decode(data)), picture)


def svg(lines):
    html = line_chart(lines, "caption")
    return ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


@pytest.mark.parametrize("scale", [1e-4, 0.07, 1, 9.99, 10, 31, 12345.0])
def test_chart_is_to_scale_and_inside(scale):
    chart = svg({"a": ([0, 50, 100], [0, scale / 2, scale]), "b": ([100], [scale])})
    assert len(chart.findall("polyline")) == 2
    points = np.array([[float(v) for v in point.split(",")] for point in chart.find("polyline").get("points").split()])
    np.testing.assert_allclose(points[1], (points[0] + points[2]) / 2, atol=0.1)
    _, _, width, height = (float(v) for v in chart.get("viewBox").split())
    assert (points >= 0).all() and (points <= (width, height)).all()
    numbers = [
        float(text.text) for text in chart.findall("text") if text.get("text-anchor") == "end" and text.text[0].isdigit()
    ]
    assert 4 <= len(numbers) <= 10 and numbers[0] == 0 and numbers[-1] >= scale * 0.999


def test_bar_is_in_proportion():
    html = bar({"one <": 1.0, "three": 3.0, "none": 0.0}, "a & b")
    parts = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6]).findall("rect")
    widths = [float(part.get("width")) for part in parts]
    assert widths == [225, 675, 0] and [float(part.get("x")) for part in parts] == [0, 225, 900]
    assert "one &lt; 1.0 (25%)" in html and "three 3.0 (75%)" in html and "a &amp; b" in html
    assert "(0%)" in bar({"nothing": 0.0}, "empty")


@pytest.mark.parametrize("lines", [{}, {"a": ([], [])}, {"a": ([0], [0.0])}])
def test_chart_of_nothing(lines):
    assert svg(lines).findall("path")
