"""The picture of a schedule, in text and as SVG."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from shunter.demo.picture import Bar, svg, terminal, utilisation

NODES = [("n1", 4), ("n2", 4)]
SVG = "{http://www.w3.org/2000/svg}"
PLACE = ("x", "y", "width", "height")


def bar(
    job_id: int,
    gpus: tuple[int, ...],
    start_s: float,
    end_s: float,
    *,
    node: str = "n1",
    name: str = "run",
    state: str = "succeeded",
    priority: str = "medium",
) -> Bar:
    return Bar(job_id, name, node, gpus, start_s, end_s, state, priority)


def blocks(document: str) -> list[dict[str, float]]:
    """Return each block's place: the first rectangle of each group that has a tooltip."""
    root = ElementTree.fromstring(document)
    rects = [group.find(f"{SVG}rect") for group in root.iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]
    return [{key: float(rect.attrib[key]) for key in PLACE} for rect in rects if rect is not None]


def texts(document: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(document).iter(f"{SVG}text")]


def test_utilisation_is_busy_gpu_seconds_over_the_makespan() -> None:
    bars = [bar(1, (0, 1, 2, 3), 100, 110), bar(2, (0, 1), 105, 110, node="n2")]
    assert utilisation(bars, NODES) == pytest.approx((40 + 10) / 80)


def test_utilisation_of_nothing_is_zero() -> None:
    assert utilisation([], NODES) == 0
    assert utilisation([], []) == 0
    assert utilisation([bar(1, (0,), 5, 5)], NODES) == 0


def test_terminal_has_a_row_per_gpu_an_axis_and_a_legend_within_the_width() -> None:
    bars = [
        bar(1, (0, 1), 0, 10, priority="high"),
        bar(2, (2,), 0, 5, state="failed"),
        bar(3, (0,), 0, 10, node="n2", priority="low", state="cancelled"),
    ]
    lines = terminal(bars, NODES, 48).plain.split("\n")
    assert lines[0] == "n1 gpu0 ▏1" + "━" * 38
    assert lines[1] == "n1 gpu1 ▏1" + "━" * 38
    assert lines[2] == "n1 gpu2 ▏2" + "─" * 17 + "✗" + "·" * 20
    assert lines[3] == "n1 gpu3 " + "·" * 40
    assert lines[4] == "n2 gpu0 ▏3" + "┄" * 37 + "⊘"
    assert lines[9].split("s")[0].strip() == "0"
    assert "5 s" in lines[9]
    legend = " ".join(lines[10:])
    assert all(word in legend for word in ("high", "medium", "low", "✗ failed", "⊘ cancelled", "· idle"))
    assert max(map(len, lines)) <= 48


@pytest.mark.parametrize("width", [0, 24, 60, 200])
def test_terminal_fits_any_width(width: int) -> None:
    bars = [bar(number, (number % 4,), number, number + 0.01, state="failed") for number in range(50)]
    lines = terminal(bars, [("a-node-with-a-long-name", 4)], width).plain.split("\n")
    assert max(map(len, lines)) <= max(width, 24)


def test_a_very_short_bar_stays_visible_beside_long_ones() -> None:
    bars = [bar(7, (0,), 500, 500.001), bar(1, (0,), 0, 500), bar(2, (0,), 500.001, 1000)]
    row = terminal(bars, NODES, 60).plain.split("\n")[0]
    assert row == "n1 gpu0 ▏1" + "─" * 24 + "▪2" + "─" * 24
    assert len(blocks(svg(bars, NODES, "t"))) == 3
    assert min(block["width"] for block in blocks(svg(bars, NODES, "t"))) == 2


def test_nothing_to_show_is_a_picture_too() -> None:
    assert terminal([], NODES, 60).plain.count("·" * 52) == 8
    assert "0 jobs on 8 GPUs of 2 nodes in 0.0 s · 0 % of all GPU-seconds used" in texts(svg([], NODES, "t"))
    assert terminal([], [], 60).plain
    ElementTree.fromstring(svg([], [], "t"))


def test_bars_without_length_stay_inside_the_picture() -> None:
    document = svg([bar(1, (0,), 5, 5), bar(2, (1,), 5, 4)], NODES, "t")
    assert all(92 > block["x"] > 0 and block["width"] == 2 for block in blocks(document))


def test_svg_draws_a_job_as_one_block_per_run_of_neighbouring_gpus() -> None:
    one, two, whole = blocks(svg([bar(1, (0, 2, 3), 0, 10), bar(2, (0, 1, 2, 3), 10, 15, node="n2")], NODES, "t"))
    assert (one["height"], two["height"], whole["height"]) == (26, 54, 110)
    assert one["x"] == two["x"]
    assert one["width"] == pytest.approx(2 * whole["width"], abs=0.2)
    assert whole["x"] == pytest.approx(one["x"] + one["width"], abs=0.2)


def test_svg_writes_the_utilisation_and_the_ticks() -> None:
    written = texts(svg([bar(1, (0, 1, 2, 3), 50, 70)], NODES, "a sweep"))
    assert "a sweep" in written
    assert "1 job on 8 GPUs of 2 nodes in 20.0 s · 50 % of all GPU-seconds used" in written
    assert [text for text in written if text.endswith(" s")] == [f"{tick} s" for tick in range(0, 21, 2)]


def test_svg_writes_what_fits_and_no_more() -> None:
    bars = [bar(1, (0,), 0, 100, name="first"), bar(23, (0,), 100, 103, name="second"), bar(4, (0,), 103, 103.1)]
    written = texts(svg(bars, NODES, "t"))
    assert {"1", "first", "23"} <= set(written)
    assert not {"second", "4"} & set(written)


def test_svg_escapes_what_people_wrote() -> None:
    nasty = '</text><script>alert("1")</script>&\x00\x1b[31m \ud800'
    document = svg([bar(1, (0,), 0, 10, name=nasty, priority=nasty)], NODES, nasty)
    assert "<script>" not in document
    root = ElementTree.fromstring(document.encode())
    title = root.find(f".//{SVG}title")
    assert title is not None
    assert '<script>alert("1")</script>&[31m' in (title.text or "")


def test_marks_say_how_a_bar_ended() -> None:
    states = ["failed", "timeout", "lost", "cancelled", "preempted", "succeeded"]
    bars = [bar(number, (0,), number * 10, number * 10 + 10, state=state) for number, state in enumerate(states)]
    assert [mark for mark in terminal(bars, NODES, 120).plain.split("\n")[0] if mark in "✗⊘↺"] == [*"✗✗✗⊘↺"]
    written = texts(svg(bars, NODES, "t"))
    assert all(state in written for state in states[:5])
    assert "succeeded" not in written


def test_bars_on_unknown_gpus_are_left_out() -> None:
    bars = [bar(1, (0,), 0, 10), bar(2, (4,), 0, 999), bar(3, (0,), 0, 999, node="n9"), bar(4, (), 0, 999)]
    assert len(blocks(svg(bars, NODES, "t"))) == 1
    assert utilisation(bars, NODES) == pytest.approx(1 / 8)
