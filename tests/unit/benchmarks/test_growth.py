"""The slope of a curve, and the picture of two curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from xml.etree import ElementTree

import pytest
from benchmarks.growth import Point, draw, slope, slopes

SVG = "{http://www.w3.org/2000/svg}"
NODES = [(125, 0.12, 0.9), (250, 0.14, 1.3), (500, 0.153, 1.6), (1_000, 0.19, 2.4), (4_000, 0.31, 123.4)]
PENDING = [(1_250, 0.17, 1.1), (2_500, 0.18, 1.2), (5_000, 0.2, 2.0), (80_000, 3.14, 5.96)]


def drawn(nodes_curve: Sequence[Point], pending_curve: Sequence[Point]) -> ElementTree.Element:
    return ElementTree.fromstring(draw(nodes_curve, pending_curve, 1_000, 10_000))


def texts(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def dots(root: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter(f"{SVG}circle")]


@pytest.mark.parametrize(
    ("law", "exponent"),
    [
        (lambda _: 3.0, 0.0),
        (lambda size: 0.01 * size, 1.0),
        (lambda size: 5 * size**0.5, 0.5),
        (lambda size: 2 / size**2, -2.0),
    ],
)
def test_the_slope_of_a_power_law_is_its_exponent(law: Callable[[float], float], exponent: float) -> None:
    assert slope([(size, law(size)) for size in (1, 10, 64, 1_000)]) == pytest.approx(exponent, abs=1e-12)


def test_points_beside_a_power_law_pull_at_its_slope() -> None:
    # Twice above and twice below at the same size: the middle stays. Twice above at the end only: steeper.
    assert slope([(1, 1), (10, 20), (10, 5), (100, 100)]) == pytest.approx(1.0)
    assert slope([(1, 1), (2, 2), (4, 8)]) == pytest.approx(1.5)


@pytest.mark.parametrize("points", [[], [(10, 1.0)], [(10, 1.0), (10, 2.0)]])
def test_one_size_has_no_slope(points: list[tuple[float, float]]) -> None:
    assert slope(points) is None
    assert slopes([(int(size), time, time) for size, time in points]) == {}


def test_each_percentile_has_its_slope() -> None:
    fitted = slopes([(size, size / 100, 0.5 * size**2) for size in (2, 20, 200)])
    assert fitted == {"p50": pytest.approx(1.0), "p99": pytest.approx(2.0)}


def test_every_point_has_its_place_and_its_value() -> None:
    root = drawn(NODES, PENDING)
    shown = texts(root)
    assert len(dots(root)) == 2 * (len(NODES) + len(PENDING))
    values = ["0.12", "0.14", "0.15", "0.19", "0.31", "0.9", "1.3", "1.6", "2.4", "123"]
    values += ["0.17", "0.18", "0.2", "3.1", "1.1", "1.2", "2", "6"]
    sizes = [f"{size:,}" for size, *_ in (*NODES, *PENDING)]
    for text in (*values, *sizes, "nodes", "pending jobs"):
        assert text in shown
    assert shown.count("target") == 2


def test_a_reader_who_sees_nothing_is_told_the_same() -> None:
    root = drawn(NODES, PENDING)
    assert root.attrib["role"] == "img"
    assert root.findtext(f"{SVG}title") == "Time of a pass by nodes, and by pending jobs"
    words = root.findtext(f"{SVG}desc") or ""
    assert "Time of a pass by nodes, with 10,000 pending jobs. 125 nodes: p50 0.12 ms, p99 0.9 ms; 250 nodes:" in words
    assert "80,000 pending jobs: p50 3.1 ms, p99 6 ms. Slope: " in words


def test_more_is_further_right_and_longer_is_higher_on_one_scale_for_both_charts() -> None:
    root = drawn([(10, 1.0, 4.0), (20, 2.0, 4.0), (40, 4.0, 8.0)], [(7, 2.0, 4.0), (14, 2.0, 4.0)])
    (x1, one), (x2, two), (x3, four), *p99, right_two, _, right_four, _ = dots(root)
    assert x1 < x2 and one > two
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.11)
    for double in (two - four, four - p99[-1][1]):
        assert double == pytest.approx(one - two, abs=0.11)
    assert [level for _, level in (p99[0], right_two, right_four)] == [four, two, four]
    targets = [float(line.attrib["y1"]) for line in root.iter(f"{SVG}line") if line.attrib["class"] == "target"]
    assert targets[0] == targets[1] == pytest.approx(one + (p99[-1][1] - one) * math.log(5, 8), abs=0.11)


def test_the_line_of_slope_one_passes_through_points_that_double() -> None:
    root = drawn([(10, 1.0, 1.0), (20, 2.0, 2.0), (40, 4.0, 4.0)], [])
    line = next(one for one in root.iter(f"{SVG}line") if one.attrib["class"] == "double" and one.attrib["y1"] != "10")
    x1, y1, x2, y2 = (float(line.attrib[name]) for name in ("x1", "y1", "x2", "y2"))
    for x, y in dots(root):
        assert y1 + (x - x1) * (y2 - y1) / (x2 - x1) == pytest.approx(y, abs=0.5)


@pytest.mark.parametrize(
    "curve",
    [
        [],
        [(1_000, 0.19, 2.4)],
        [(1_000, 5.0, 5.0)],
        [(1_000, 5.0, 5.0), (1_000, 5.0, 5.0)],
        [(1_000, 5.0, 5.0), (2_000, 5.0, 5.0)],
        [(1, 1e-6, 1e-5), (10**9, 1e6, 1e7)],
        [(1_000 + size, 0.2, 0.4) for size in range(80)],
    ],
)
def test_curves_with_little_in_them_or_much_are_drawn_inside_the_picture(curve: list[Point]) -> None:
    root = drawn(curve, curve)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert len(dots(root)) == 4 * len(curve)
    assert all(0 < x < width and 0 < y < height for x, y in dots(root))
    assert ("Nothing was measured." in texts(root)) is (not curve)
