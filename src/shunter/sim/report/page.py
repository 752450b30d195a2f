"""The report as one HTML page that needs nothing else, and the list of its charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from shunter.sim.report.lines import completions, fragmentation, utilisation, waits
from shunter.sim.report.markup import Markup, joined, tag
from shunter.sim.report.plot import NARROW, WIDE, Drawing, svg
from shunter.sim.report.queue import queue
from shunter.sim.report.study import BINS, Study, busiest
from shunter.sim.report.style import CHART_CSS, PAGE_CSS
from shunter.sim.report.table import NOTE, summary
from shunter.sim.report.timeline import MOST_NODES, PER_CELL, timeline
from shunter.sim.report.words import count, duration, headline
from shunter.sim.result import Refused, Result

MARK: Final = "shunter simulate report"
"""Stands at the head of every file that the report writes: only such a file is ever overwritten."""

_MOST_REFUSED: Final = 50

_COMPLETION: Final = (
    "Share of jobs that ended within the time on the axis, counted from their submission. The axis is logarithmic."
)
_WAIT: Final = (
    "Share of jobs that started within the time on the axis. A line begins at the share of jobs that did not wait, or "
    "less than the axis shows. The axis is logarithmic."
)
_FRAGMENTATION: Final = (
    "Share of all GPUs that are free although a typical job of this trace could not use them (FGD, USENIX ATC'23)."
)


class Figure(Struct, frozen=True):
    """A heading, a caption, and drawings for a given width: several if they may stand on different sheets of paper."""

    slug: str
    heading: str
    caption: str
    draw: Callable[[float], list[Drawing]]


def figures(study: Study) -> list[Figure]:
    """Return the charts of *study* in the order of the page; each slug is the name of a file."""
    step = duration(study.length_s / BINS)
    over_time = f"Each step is the exact mean over {step}. Time counts from the first submission"
    over_time += "; the dotted line is the last one." if study.since_s is not None else "."
    waiting = f"Jobs waiting, by class, all policies on one scale; means are over the time drawn. {over_time}"
    useless = f"{_FRAGMENTATION} {over_time}"
    nodes = busiest(study.results, MOST_NODES)
    return [
        Figure(
            "utilisation", "GPUs in use", f"Share of all GPUs in use. {over_time}", lambda w: [utilisation(study, w)]
        ),
        Figure("queue", "The queue", waiting, lambda w: [queue(study, w)]),
        Figure("completion", "How long jobs take", _COMPLETION, lambda w: [completions(study, w)]),
        Figure("wait", "How long jobs wait", _WAIT, lambda w: [waits(study, w)]),
        Figure("fragmentation", "Fragmentation", useless, lambda w: [fragmentation(study, w)]),
        Figure(
            "nodes",
            "The nodes",
            _nodes_caption(study, len(nodes)),
            lambda w: [timeline(study, index, nodes, w) for index in range(len(study.results))],
        ),
    ]


def _nodes_caption(study: Study, drawn: int) -> str:
    total = len({name for result in study.results for name, gpus in result.nodes.items() if gpus > 0})
    which = (
        f"{drawn} of {total:,} nodes are drawn: the busiest ones over all policies."
        if total > drawn
        else f"{count(total, 'node')} with GPUs."
    )
    return (
        f"One row per node, the darker the larger the share of its GPUs in use (on a dark screen: the brighter); "
        f"each cell is a mean over {duration(study.length_s / BINS * PER_CELL)}. {which}"
    )


def page(study: Study, charts: Sequence[Figure], title: str, facts: Sequence[tuple[str, str]]) -> str:
    """Return the document; *facts* close it."""
    results = study.results
    sections = [
        tag("h1", title),
        tag("p", _scope(results), class_="soft"),
        *(tag("p", sentence, class_="lead") for sentence in headline(results)),
        tag("h2", "Summary"),
        summary(results),
        tag("p", NOTE, class_="note"),
        *(part for figure in charts for part in _section(figure)),
        tag("h2", "Refused jobs"),
        *_refused(results),
        tag("h2", "How this was made"),
        tag("table", tag("tbody", *(_fact(key, value) for key, value in facts)), class_="text"),
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=MARK),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(CHART_CSS + PAGE_CSS)),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", *sections)), lang="en") + "\n"


def _scope(results: Sequence[Result]) -> str:
    jobs = max((result.jobs for result in results), default=0)
    nodes = max((result.nodes for result in results), key=len, default={})
    on = f"on {count(len(nodes), 'node')} with {count(sum(nodes.values()), 'GPU')}"
    policies = f"{len(results)} {'policy' if len(results) == 1 else 'policies'}"
    return f"{count(jobs, 'job')} {on}, {policies}"


def _section(figure: Figure) -> list[Markup]:
    caption = tag("figcaption", figure.caption)
    parts = [tag("h2", figure.heading)]
    for index, (wide, narrow) in enumerate(zip(figure.draw(WIDE), figure.draw(NARROW), strict=True)):
        above = [caption] if index == 0 else []
        parts.append(tag("figure", *above, svg(wide), svg(narrow, "narrow")))
    return parts


def _refused(results: Sequence[Result]) -> list[Markup]:
    """Return what was refused: once if it was the same under all policies, as it is for one trace on one cluster."""
    if all(result.refused == results[0].refused for result in results):
        return _refused_list(results[0].refused if results else [])
    return [part for one in results for part in (tag("h3", one.policy), *_refused_list(one.refused))]


def _refused_list(refused: Sequence[Refused]) -> list[Markup]:
    if not refused:
        return [tag("p", "None: every line of the trace was accepted.")]
    head = tag("tr", *(tag("th", name, scope="col") for name in ("line", "id", "why")))
    rows = [tag("tr", tag("td", f"{one.line:,}"), tag("td", one.name), tag("td", one.message)) for one in refused]
    more = len(refused) - _MOST_REFUSED
    return [
        tag("p", f"{count(len(refused), 'line')} of the trace could never run on these nodes and took no part."),
        tag("table", tag("thead", head), tag("tbody", *rows[:_MOST_REFUSED]), class_="text"),
        *([tag("p", f"and {more:,} more")] if more > 0 else []),
    ]


def _fact(key: str, value: str) -> Markup:
    return tag("tr", tag("th", key, scope="row"), tag("td", value))


def document(drawing: Drawing) -> str:
    """Return *drawing* as the content of an SVG file."""
    head = Markup(f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {MARK} -->\n')
    return joined([head, svg(drawing, own_style=True), Markup("\n")])
