"""The files: well-formed, escaped, small, and never over somebody else's."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from shunter.domain.job import Priority
from shunter.errors import InvalidInput
from shunter.sim.report.write import check_report, write_report
from shunter.sim.result import Moment, Refused, Result, Run, Share
from tests.unit.sim.report.fakes import several

FACTS = [("trace", "openb.csv"), ("seed", "7")]
RESULTS = several(4, 300, 3, 1.0, "fifo", "srgf")
EVIL = "<script>alert('1')</script>&\"\x00\ud800"
VOID = {"meta"}


class Balanced(HTMLParser):
    """Fails on a tag that closes what is not open; collects what was opened, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def written(results: list[Result], tmp_path: Path, title: str = "A trace") -> Balanced:
    """Write a report, hold every file against its grammar, and return the page as parsed."""
    page, *charts = write_report(results, tmp_path / "report.html", title=title, facts=FACTS)
    assert len(charts) == 6
    for chart in charts:
        root = ElementTree.fromstring(chart.read_bytes())
        assert root.find("{http://www.w3.org/2000/svg}title") is not None
        assert root.find("{http://www.w3.org/2000/svg}desc") is not None
    parsed = Balanced()
    parsed.feed(page.read_text(encoding="utf-8"))
    parsed.close()
    assert parsed.open == []
    return parsed


def empty(**changes: object) -> Result:
    figures = dict.fromkeys(Result.__struct_fields__[3:14], 0)
    return replace(Result("fifo", {}, 0, **figures), **changes)  # type: ignore[arg-type]


def test_returns_the_page_and_its_charts_beside_it(tmp_path: Path) -> None:
    paths = write_report(RESULTS, tmp_path / "my.report.html", title="t", facts=FACTS)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "my.report.html",
        *(f"my.report_files/{n}.svg" for n in ("utilisation", "queue", "completion", "wait", "fragmentation", "nodes")),
    ]
    assert sorted(tmp_path.rglob("*.*g")) == sorted(paths[1:])


def test_the_page_has_everything_and_needs_nothing(tmp_path: Path) -> None:
    parsed = written(RESULTS, tmp_path, title="Venus in September")
    text = (tmp_path / "report.html").read_text()
    assert parsed.seen.count("svg") == 2 * (5 + len(RESULTS))
    assert {"openb.csv", "seed", "Venus in September", "wait p99.9"} <= set(parsed.texts)
    assert not {"script", "link", "img", "iframe"} & set(parsed.seen)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text


def test_every_text_of_the_trace_is_escaped(tmp_path: Path) -> None:
    share = Share(EVIL, (0,))
    runs = [Run(EVIL, Priority.LOW, 1, 0, 1, 5, (share,))]
    moments = [Moment(0, 0, (0, 0, 1), 0), Moment(1, 1, (0, 0, 0), 0.5)]
    result = replace(
        RESULTS[0], policy=EVIL, nodes={EVIL: 4}, runs=runs, moments=moments, refused=[Refused(3, EVIL, EVIL)]
    )
    path = tmp_path / "report.html"
    parsed = written([result, replace(result, policy=EVIL * 9)], tmp_path, title=EVIL)
    write_report([result], path, title=EVIL, facts=[(EVIL, EVIL)])
    assert "script" not in parsed.seen
    for file in (path, *(tmp_path / "report_files").iterdir()):
        assert "<script" not in file.read_text(encoding="utf-8")
    assert "<script>alert('1')</script>&\"\ufffd\ufffd" in parsed.texts


@pytest.mark.parametrize(
    "results",
    [
        pytest.param([], id="no policy"),
        pytest.param([empty()], id="nothing at all"),
        pytest.param([empty(nodes={"a": 8}), empty(nodes={"a": 8})], id="no jobs"),
        pytest.param([empty(nodes={"a": 0}, moments=[Moment(0, 0, (1, 0, 0), 0)])], id="no GPUs"),
        pytest.param(
            [
                empty(
                    nodes={"a": 1},
                    jobs=1,
                    runs=[Run("x", Priority.HIGH, 1, 5, 5, 5, (Share("a", (0,)),))],
                    moments=[Moment(5, 0, (0, 0, 0), 0)],
                )
            ],
            id="makespan 0",
        ),
        pytest.param(
            [
                empty(
                    nodes={"a": 1},
                    jobs=2,
                    runs=[Run("x", Priority.HIGH, 1, at, at, at + 1e-3, (Share("a", (0,)),)) for at in (0.0, 1e9)],
                    moments=[Moment(0, 1, (0, 0, 0), 0), Moment(1e-3, 0, (0, 0, 0), 0), Moment(1e9, 1, (0, 0, 0), 0)],
                ),
                empty(nodes={"other": 2}, mean_jct_s=float("nan"), frag_fgd=float("inf")),
            ],
            id="one node, no waits, thirty years, no numbers",
        ),
        pytest.param([replace(RESULTS[0], moments=[]), replace(RESULTS[1], runs=[])], id="half of it"),
    ],
)
def test_empty_cases_are_reports_too(results: list[Result], tmp_path: Path) -> None:
    written(results, tmp_path)


def test_the_first_fifty_refused_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    refused = [Refused(line, f"job-{line}", "too large") for line in range(1, 1_078)]
    parsed = written([replace(result, refused=refused) for result in RESULTS], tmp_path)
    assert "and 1,027 more" in parsed.texts
    assert "1,077 lines of the trace could never run on these nodes and took no part." in parsed.texts
    assert "job-50" in parsed.texts
    assert "job-51" not in parsed.texts
    assert parsed.texts.count("job-1") == 1


def test_policies_that_refused_different_lines_have_a_list_each(tmp_path: Path) -> None:
    parsed = written([replace(RESULTS[0], refused=[]), replace(RESULTS[1], refused=[Refused(1, "x", "y")])], tmp_path)
    assert "None: every line of the trace was accepted." in parsed.texts
    assert "1 line of the trace could never run on these nodes and took no part." in parsed.texts


def test_at_most_64_nodes_are_drawn_and_the_page_says_so(tmp_path: Path) -> None:
    parsed = written(several(1, 300, 135, 1.0, "fifo"), tmp_path)
    assert any("64 of 135 nodes are drawn: the busiest ones" in text for text in parsed.texts)


def test_a_large_trace_makes_a_page_of_under_three_megabytes(tmp_path: Path) -> None:
    results = several(9, 24_000, 70, 26.0, "fifo", "srgf")
    written([*results, *results, results[0]], tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_an_earlier_report_is_overwritten_and_other_files_are_left_alone(tmp_path: Path) -> None:
    written(RESULTS, tmp_path, title="old")
    notes = tmp_path / "report_files" / "notes.txt"
    notes.write_text("mine")
    written(RESULTS[:1], tmp_path, title="new")
    assert "<h1>new</h1>" in (tmp_path / "report.html").read_text()
    assert notes.read_text() == "mine"


@pytest.mark.parametrize("name", ["report.html", "report_files/queue.svg"])
def test_a_file_of_somebody_else_is_not_overwritten(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    target.parent.mkdir(exist_ok=True)
    target.write_text("<html>my thesis</html>")
    with pytest.raises(InvalidInput, match=r"--report: .*it exists and is not from an earlier report"):
        written(RESULTS, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [target]
    assert target.read_text() == "<html>my thesis</html>"


def test_an_empty_file_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "report.html").touch()
    written(RESULTS, tmp_path)


def test_a_place_that_cannot_take_a_report_is_named_with_the_option_and_a_fix(tmp_path: Path) -> None:
    (tmp_path / "x_files").touch()
    for path, message in (
        (tmp_path / "missing" / "r.html", "does not exist; create it"),
        (tmp_path, f"got a folder; name a file in it: {tmp_path / 'report.html'}"),
        (tmp_path / "x.html", "x_files: expected a folder for the charts, got a file; name another file"),
        (tmp_path / "x_files" / "r.html", "x_files does not exist"),
        (tmp_path / ("n" * 300), "too long"),
    ):
        with pytest.raises(InvalidInput) as caught:
            check_report(path)
        assert str(caught.value).startswith("--report: ")
        assert message in str(caught.value)
        assert caught.value.field == "report"


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InvalidInput, match="files cannot be written into this folder"):
        check_report(tmp_path / "r.html")


def test_a_failed_write_is_an_error_of_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InvalidInput, match=r"--report: .*/nodes\.svg: no space left on device"):
        write_report(RESULTS, tmp_path / "r.html", title="t", facts=FACTS)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
