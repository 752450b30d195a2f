"""What the charts draw is what the results say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from shunter.domain.job import Priority
from shunter.sim.report.lines import completions, fragmentation, utilisation, waits
from shunter.sim.report.plot import NARROW, WIDE, Drawing, count_ticks, look, share_ticks, steps, svg, time_ticks
from shunter.sim.report.queue import queue
from shunter.sim.report.study import busiest, study
from shunter.sim.report.style import DASHES
from shunter.sim.report.table import summary
from shunter.sim.report.timeline import timeline
from shunter.sim.report.words import duration
from shunter.sim.result import Moment, Result, Run, Share
from tests.unit.sim.report.fakes import several

SVG = "{http://www.w3.org/2000/svg}"
RESULTS = several(2, 400, 2, 1.0, "fifo", "srgf")


def element(drawing: Drawing) -> ElementTree.Element:
    return ElementTree.fromstring(svg(drawing))


def paths(drawing: Drawing, class_: str) -> list[str]:
    return [
        path.attrib["d"] for path in element(drawing).iter(f"{SVG}path") if class_ in path.attrib["class"].split(" ")
    ]


def tiny(policy: str = "fifo", *, end_s: float = 100.0) -> Result:
    """Return one job that waits from 10 to 20 and then holds 2 of 8 GPUs until *end_s*; the trace starts at 0."""
    share = Share("a", (0, 1))
    runs = [
        Run("first", Priority.HIGH, 1, 0, 0, 10, (Share("a", (0, 1), 500),)),
        Run("second", Priority.LOW, 2, 10, 20, end_s, (share,)),
    ]
    moments = [Moment(0, 1, (0, 0, 0), 4), Moment(10, 0, (0, 0, 1), 2), Moment(20, 2, (0, 0, 0), 0)]
    moments.append(Moment(end_s, 0, (0, 0, 0), 1))
    return replace(RESULTS[0], policy=policy, nodes={"a": 4, "b": 4, "none": 0}, runs=runs, moments=moments, jobs=2)


def test_all_policies_share_one_axis_and_stay_as_their_end_left_them() -> None:
    short, long = study([tiny(), tiny(end_s=200)]).curves
    assert sum(long.used) / 600 == pytest.approx((10 * 1 + 180 * 2) / 8 / 200)
    assert sum(short.used) / 600 == pytest.approx((10 * 1 + 80 * 2) / 8 / 200)
    assert short.used[-1] == 0 < long.used[-1]
    assert sum(short.fragmented) / 600 == pytest.approx((10 * 4 + 10 * 2 + 100 * 1) / 8 / 200)


def test_only_classes_that_occur_are_drawn() -> None:
    found = study([tiny()])
    assert found.classes == [Priority.HIGH, Priority.LOW]
    assert found.curves[0].most_waiting == 1
    assert found.curves[0].mean_waiting == pytest.approx(0.1)
    assert paths(queue(found, WIDE), "low")
    assert not paths(queue(found, WIDE), "medium")
    rects = [rect.attrib["class"] for rect in element(queue(found, WIDE)).iter(f"{SVG}rect")]
    assert rects == ["paper", "high", "low"]


def test_the_last_submission_is_marked_unless_it_is_the_end() -> None:
    assert study([tiny()]).since_s == 10
    assert study([replace(tiny(), runs=tiny().runs[:1], moments=tiny().moments[:1])]).since_s is None


def test_a_share_of_a_gpu_counts_as_its_fraction_on_its_node() -> None:
    found = study([tiny()])
    drawing = timeline(found, 0, ["a", "b"], WIDE)
    assert paths(drawing, "h1") == ["M0 0.5m0 0h30"]
    assert paths(drawing, "h2") == ["M0 0.5m60 0h240"]


def test_a_row_goes_on_after_a_gap_and_the_next_row_is_below() -> None:
    runs = [Run("x", Priority.LOW, 4, 0, start_s, start_s + 20, (Share("b", (0, 1, 2, 3)),)) for start_s in (0, 40, 80)]
    drawing = timeline(study([replace(tiny(), runs=runs)]), 0, ["a", "b"], WIDE)
    assert paths(drawing, "h4") == ["M0 1.5m0 0h60m60 0h60m60 0h60"]
    assert "30.0 % in use" in drawing.words


def test_the_busiest_nodes_are_drawn_in_their_order() -> None:
    assert busiest([tiny()], 64) == ["a", "b"]
    turned = replace(tiny(), nodes={"b": 4, "a": 4})
    assert busiest([turned], 64) == ["b", "a"]
    assert busiest([turned], 1) == ["a"]


def test_a_line_of_waits_begins_at_the_share_that_did_not_wait() -> None:
    (line,) = paths(waits(study([tiny()]), WIDE), "curve")[1:]
    top, bottom = (float(row.attrib["y1"]) for row in horizontal(waits(study([tiny()]), WIDE))[::-4])
    start, end = re.match(r"M\S+ (\S+)H.*V([^H]+)H", line).groups()  # type: ignore[union-attr]
    assert float(start) == pytest.approx((top + bottom) / 2, abs=0.1)
    assert float(end) == pytest.approx(top, abs=0.1)


def horizontal(drawing: Drawing) -> list[ElementTree.Element]:
    return [line for line in element(drawing).iter(f"{SVG}line") if line.attrib["y1"] == line.attrib["y2"]]


def test_a_distribution_says_in_words_what_it_draws() -> None:
    words = completions(study(RESULTS), WIDE).words
    times = sorted(run.end_s - run.submit_s for run in RESULTS[0].runs)
    half, nearly, last = (duration(times[number]) for number in (199, 359, 399))
    assert words.startswith(f"fifo: half within {half}, 90 % within {nearly}, all within {last}. srgf: ")


def test_lines_differ_by_more_than_colour() -> None:
    looks = [look(index) for index in range(35)]
    assert len(set(looks)) == 35
    assert len({DASHES[int(one.split()[2][1:])] for one in looks[:5]}) == 5


def test_a_line_under_another_is_named_in_the_legend() -> None:
    drawing = utilisation(study([tiny(), tiny("copy")]), WIDE)
    names = [text.text for text in element(drawing).iter(f"{SVG}text") if text.attrib["class"] == "name"]
    assert names == ["fifo", "copy = fifo"]


def test_steps_are_neither_smoothed_nor_repeated() -> None:
    assert steps([(0, 5), (1, 5), (2, 7), (3, 6.96)], 4) == "M0 5H2V7H4"
    assert steps([], 4) == ""


def test_ticks_are_round_and_few() -> None:
    assert [text for _, text in time_ticks(33.4 * 86_400, 11)] == [f"{day} d" for day in (0, 5, 10, 15, 20, 25, 30)]
    assert [text for _, text in time_ticks(5_400, 6)] == [
        "0 min",
        "15 min",
        "30 min",
        "45 min",
        "60 min",
        "75 min",
        "90 min",
    ]
    assert [text for _, text in time_ticks(0.5, 5)] == ["0 s", "0.1 s", "0.2 s", "0.3 s", "0.4 s", "0.5 s"]
    for length_s in (1e-6, 0.7, 3, 1e4, 1e7, 1e10, 1e12):
        assert 2 <= len(time_ticks(length_s, 8)) <= 9
    assert share_ticks(1.0)[1][-1] == (1.0, "100 %")
    assert share_ticks(0.117)[0] == pytest.approx(0.15)
    assert count_ticks(1) == (1, [(0, "0"), (1, "1")])
    assert count_ticks(324)[0] == 400


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_nothing_is_drawn_outside_the_picture(width: float) -> None:
    found = study(RESULTS)
    drawings = [draw(found, width) for draw in (utilisation, fragmentation, completions, waits, queue)]
    for drawing in [*drawings, timeline(found, 0, list(RESULTS[0].nodes), width)]:
        for text in element(drawing).iter(f"{SVG}text"):
            assert 0 <= float(text.attrib["x"]) <= width
            assert 0 <= float(text.attrib["y"]) <= drawing.height
        for d in paths(drawing, "curve"):
            xs = [float(x) for x in re.findall(r"[MH](-?[\d.]+)", d)]
            assert 0 <= min(xs) <= max(xs) <= width


def test_the_best_figure_of_each_column_is_bold_and_has_its_seconds() -> None:
    table = summary([replace(RESULTS[0], mean_jct_s=90.5), replace(RESULTS[1], mean_jct_s=60.25)])
    assert '<td title="60.25 s"><b>1.00 min</b></td>' in table
    assert '<td title="90.5 s">1.51 min</td>' in table


def test_more_is_better_for_gpus_in_use_and_equals_are_not_bold() -> None:
    table = summary([replace(RESULTS[0], util_window=0.5), replace(RESULTS[1], util_window=0.75)])
    assert "<b>75.0 %</b>" in table
    assert "<b>91.0 %</b>" not in table
    assert "<b>" not in summary(RESULTS[:1])
