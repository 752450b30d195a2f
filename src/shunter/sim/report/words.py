"""Figures as people read them, and what a comparison says in one sentence each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from shunter.sim.result import Result

NOTHING = "–"


def duration(seconds: float) -> str:
    """Return *seconds* in one unit, three digits: `0.25 s`, `12.3 min`, `4.56 h`, `12.0 d`; a dash for no number."""
    if not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:
        return f"{digits(seconds)} s"
    if seconds < 3_600:
        return f"{digits(seconds / 60)} min"
    if seconds < 48 * 3_600:
        return f"{digits(seconds / 3_600)} h"
    return f"{digits(seconds / 86_400)} d"


def digits(value: float) -> str:
    """Return *value* (at least 0) with three digits: `0`, `0.0123`, `1.50`, `12.0`, `12,345`."""
    if value == 0:
        return "0"
    if value < 0.001:
        return "< 0.001"
    decimals = max(2 - math.floor(math.log10(float(f"{value:.2e}"))), 0)
    return f"{value:,.{decimals}f}"


def percent(share: float) -> str:
    """Return *share* (1 is all) as `83.4 %`; what is not quite all or nothing never reads as `100 %` or `0 %`."""
    if not math.isfinite(share):
        return NOTHING
    if share in {0, 1}:
        return f"{100 * share:.0f} %"
    text = f"{100 * share:.1f}"
    return {"0.0": "< 0.1 %", "100.0": "> 99.9 %"}.get(text, f"{text} %")


def count(value: int, noun: str) -> str:
    """Return `1 job`, `12,345 jobs`."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def headline(results: Sequence[Result]) -> list[str]:
    """Return what *results* say about the mean completion and the mean wait, measured against the first of them."""
    if not results:
        return ["No policy was simulated."]
    if not any(result.jobs for result in results):
        return ["No job ran, so there is nothing to compare."]
    if len(results) == 1:
        only = results[0]
        return [
            f"Under {only.policy} a job completes {duration(only.mean_jct_s)} after its submission on average; "
            f"{duration(only.mean_queue_s)} of that is waiting."
        ]
    sentences = [_completion(results), _wait(results)]
    if len({result.jobs for result in results}) > 1:
        ran = ", ".join(f"{result.policy} {result.jobs:,}" for result in results)
        sentences.append(
            f"Careful: the policies did not run the same number of jobs ({ran}), so their means differ in kind."
        )
    return sentences


def _completion(results: Sequence[Result]) -> str:
    first, best = results[0], _best(results, lambda one: one.mean_jct_s)
    if best is first:
        return _unbeaten(results, lambda one: one.mean_jct_s, "completes jobs sooner on average", "mean completion")
    return (
        f"{best.policy} completes jobs {_gain(first.mean_jct_s, best.mean_jct_s)} sooner on average than "
        f"{first.policy}: {duration(best.mean_jct_s)} after submission instead of {duration(first.mean_jct_s)}."
    )


def _wait(results: Sequence[Result]) -> str:
    if not any(result.mean_queue_s for result in results):
        return "No job waits under any policy."
    first, best = results[0], _best(results, lambda one: one.mean_queue_s)
    if best is first:
        return _unbeaten(results, lambda one: one.mean_queue_s, "lets jobs wait less on average", "mean wait")
    if best.mean_queue_s == 0:
        return (
            f"Under {best.policy} no job waits; under {first.policy} the mean wait is {duration(first.mean_queue_s)}."
        )
    return (
        f"{best.policy} has the shortest mean wait: {duration(best.mean_queue_s)} instead of "
        f"{duration(first.mean_queue_s)}, {_gain(first.mean_queue_s, best.mean_queue_s)} shorter."
    )


def _best(results: Sequence[Result], mean_s: Callable[[Result], float]) -> Result:
    """Return the one with the least mean; the first of all where the difference would not show."""
    least = min(results, key=mean_s)
    return results[0] if duration(mean_s(least)) == duration(mean_s(results[0])) else least


def _unbeaten(results: Sequence[Result], mean_s: Callable[[Result], float], better: str, noun: str) -> str:
    """Return that no policy is better than the first, and how near the next one comes."""
    first, second = results[0], min(results[1:], key=mean_s)
    mine, other = duration(mean_s(first)), duration(mean_s(second))
    if {duration(mean_s(result)) for result in results} == {mine}:
        return f"Under all policies the {noun} is {mine}."
    if mine == other:
        return f"No policy {better} than {first.policy}: its {noun} is {mine}, and so is that of {second.policy}."
    return f"No policy {better} than {first.policy}: its {noun} is {mine}, next is {second.policy} with {other}."


def _gain(slow_s: float, fast_s: float) -> str:
    """Return `4.2 times`, or `12 %` less where that says more."""
    ratio = slow_s / fast_s if fast_s else math.inf
    if ratio < 1.5 or math.isinf(ratio):
        part = max(100 * (1 - fast_s / slow_s), 0.1)
        return f"{part:.1f} %" if part < 9.95 else f"{part:.0f} %"
    return f"{ratio:.1f} times" if ratio < 9.95 else f"{ratio:,.0f} times"
