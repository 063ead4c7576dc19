"""Figures for notebooks: small, titled with the finding, readable without colour."""

from __future__ import annotations

import io
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rag_lab.errors import SettingsError
from rag_lab.records import Span, Stage, Timing
from rag_lab.workbench.show import snippet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rag_lab.evaluation import Comparison
    from rag_lab.gateway.rounds import LimitChange

# Okabe & Ito's colours, told apart by most colour-blind readers; ordered by falling lightness.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00")
_TITLE_CHARS = 84
HATCHES = ("", "//", "..", "xx", "\\\\")

_MOST_ROWS = 30
_LABEL_CHARS = 32
_MOST_REASONS = len(COLOURS)
_MARKERS = ("v", "D", "s", "X", "o")
# In words, with colour and hatch. Waiting is pale and hatched, the other stages are coloured.
_STAGES: dict[Stage, tuple[str, str, str]] = {
    "queue": ("waiting for its turn", "#F2F2F2", "////"),
    "limiter": ("waiting for a slot", "#F2F2F2", "...."),
    "budget": ("waiting for the provider's budget", "#F2F2F2", "xxxx"),
    "backoff": ("waiting between attempts", "#F2F2F2", "----"),
    "call": ("the provider's call", "#0072B2", ""),
    "decode": ("decoding", "#F0E442", "||||"),
    "decompose": ("finding the parts", "#CC79A7", ""),
    "lookup": ("looking names up", "#56B4E9", "////"),
    "search": ("search", "#E69F00", ""),
    "fuse": ("fusion", "#D55E00", "\\\\\\\\"),
    "rerank": ("reranking", "#009E73", "----"),
    "synthesise": ("writing the answer", "#CCE6F5", ""),
}


def show(figure: Figure, alternative: str) -> None:
    """Displays a figure as a PNG with a text alternative, and closes it."""
    import matplotlib.pyplot as plt
    from IPython.display import display

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    display(
        {"image/png": buffer.getvalue(), "text/plain": alternative},
        metadata={"image/png": {"alt": alternative}},
        raw=True,
    )


def plot_comparison(comparison: Comparison, measures: Sequence[str] = ()) -> None:
    """Bars of each system's mean with its 95 % interval, one group a measure."""
    import matplotlib.pyplot as plt

    shown = list(measures or comparison.measures)
    figure, axes = plt.subplots(figsize=(6.8, 3.2))
    width = 0.8 / len(comparison.tables)
    for place, system in enumerate(comparison.tables):
        _bars(axes, comparison, system, shown, place, width)
    axes.set_xticks(range(len(shown)), shown)
    axes.set_ylabel("mean over questions (0 to 1)")
    axes.set_ylim(0, 1)
    title = textwrap.fill(comparison.verdict(shown[0]), _TITLE_CHARS)
    axes.set_title(title, loc="left", fontsize=9)
    axes.legend(
        frameon=False,
        ncols=len(comparison.tables),
        loc="upper center",
        bbox_to_anchor=(0.5, -0.1),
        fontsize=9,
    )
    axes.spines[["top", "right"]].set_visible(False)
    show(figure, describe(comparison, shown))


def _bars(
    axes: Any, comparison: Comparison, system: str, measures: list[str], place: int, width: float
) -> None:
    means = [comparison.mean(system, measure).value for measure in measures]
    ends = [comparison.interval(system, measure) for measure in measures]
    errors = [
        [mean - low for mean, (low, _) in zip(means, ends, strict=True)],
        [high - mean for mean, (_, high) in zip(means, ends, strict=True)],
    ]
    axes.bar(
        [x + (place + 0.5) * width - 0.4 for x in range(len(measures))],
        means,
        width * 0.92,
        yerr=errors,
        capsize=2,
        label=system,
        color=COLOURS[place % len(COLOURS)],
        hatch=HATCHES[place % len(HATCHES)],
        edgecolor="white",
        error_kw={"ecolor": "#333333", "elinewidth": 1},
    )


def describe(comparison: Comparison, measures: Sequence[str]) -> str:
    """The figure in words."""
    parts = []
    for measure in measures:
        values = ", ".join(
            f"{system} {comparison.mean(system, measure).value:.3f}"
            for system in comparison.systems
        )
        parts.append(f"{measure}: {values}")
    return f"Bar chart of {comparison.corpus}. {'; '.join(parts)}. {comparison.verdict()}"


def plot_waterfall(timings: Mapping[str, Timing]) -> None:
    """Where the time of each request went, a row a request, from its scheduled start.

    Stages at the same time share the height of the row. Of more than 30 requests the slowest are
    shown.

    Raises:
        SettingsError: there is no request.
    """
    import matplotlib.pyplot as plt

    if not timings:
        raise SettingsError("a waterfall needs at least one request, got none.")
    slowest = sorted(timings, key=lambda name: -timings[name].total_s)[:_MOST_ROWS]
    shown = {name: timing for name, timing in timings.items() if name in slowest}
    figure, axes = plt.subplots(figsize=(6.8, 1.4 + 0.28 * len(shown)), layout="constrained")
    for row, timing in enumerate(shown.values()):
        _request(axes, row, timing)
    axes.set_yticks(range(len(shown)), [snippet(name, _LABEL_CHARS) for name in shown], fontsize=9)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 1.12 * max(timing.total_s for timing in shown.values()) or 1)
    axes.set_xlabel("seconds since the scheduled start")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    finding = describe_waterfall(timings)
    if len(shown) < len(timings):
        finding += f" The {len(shown)} slowest are shown."
    _title(figure, finding)
    _stage_legend(figure, shown.values())
    show(figure, f"Waterfall of requests by stage. {finding}")


def _request(axes: Any, row: int, timing: Timing) -> None:
    lanes = _lanes(timing.spans)
    height = 0.72 / max(1, len(lanes))
    axes.plot([0, timing.total_s], [row, row], color="#333333", linewidth=0.8, zorder=1)
    for lane, spans in enumerate(lanes):
        for span in spans:
            _, colour, hatch = _STAGES[span.stage]
            axes.barh(
                row - 0.36 + (lane + 0.5) * height,
                span.seconds,
                height,
                span.began_s,
                color=colour,
                hatch=hatch,
                edgecolor="#333333",
                linewidth=0.5,
                zorder=2,
            )
    axes.annotate(
        f"{timing.total_s:.2f} s",
        (timing.total_s, row),
        (4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )


def _lanes(spans: Sequence[Span]) -> list[list[Span]]:
    """As few rows as hold the spans without one over another."""
    lanes: list[list[Span]] = []
    for span in sorted(spans, key=lambda span: (span.began_s, -span.ended_s)):
        free = next((lane for lane in lanes if lane[-1].ended_s <= span.began_s), None)
        if free is None:
            lanes.append([span])
        else:
            free.append(span)
    return lanes


def _stage_legend(figure: Figure, timings: Iterable[Timing]) -> None:
    from matplotlib.patches import Patch

    present = {span.stage for timing in timings for span in timing.spans}
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="#333333", linewidth=0.5, label=words)
        for stage, (words, colour, hatch) in _STAGES.items()
        if stage in present
    ]
    if handles:
        figure.legend(
            handles=handles, frameon=False, ncols=3, loc="outside lower center", fontsize=8
        )


def describe_waterfall(timings: Mapping[str, Timing]) -> str:
    """Which stage takes most of the time, and which request takes longest."""
    slowest = max(timings, key=lambda name: timings[name].total_s)
    longest = f"{snippet(slowest, _LABEL_CHARS)} takes {timings[slowest].total_s:.2f} s"
    longest += f", the longest of {len(timings)}." if len(timings) > 1 else "."
    stages_s: Counter[Stage] = Counter()
    for timing in timings.values():
        stages_s.update(timing.own_s())
    total_s = sum(timing.total_s for timing in timings.values())
    if not stages_s or not total_s:
        return longest
    stage, seconds = stages_s.most_common(1)[0]
    words = _STAGES[stage][0].capitalize()
    return f"{words} takes {100 * seconds / total_s:.0f} % of the time. {longest}"


def plot_limit(history: Sequence[LimitChange], until: float | None = None) -> None:
    """The limit on calls in flight over time, with a mark and the reason at each cut.

    Args:
        history: oldest first.
        until: when the run ended, on the clock of the history; the last change if not given.

    Raises:
        SettingsError: the history is empty.
    """
    import matplotlib.pyplot as plt

    if not history:
        raise SettingsError("the history of a limit needs at least one change, got none.")
    began = history[0].at
    end = history[-1].at if until is None else until
    figure, axes = plt.subplots(figsize=(6.8, 3.2), layout="constrained")
    axes.step(
        [*(change.at - began for change in history), end - began],
        [*(change.limit for change in history), history[-1].limit],
        where="post",
        color="#333333",
        linewidth=1.2,
    )
    _mark_cuts(figure, axes, history)
    axes.set_ylim(0, 1.1 * max(change.limit for change in history))
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds since the first call")
    axes.set_ylabel("calls that may be in flight")
    axes.spines[["top", "right"]].set_visible(False)
    finding = describe_limit(history, end)
    _title(figure, finding)
    show(figure, f"The limit over time, as steps. {finding}")


def _mark_cuts(figure: Figure, axes: Any, history: Sequence[LimitChange]) -> None:
    began = history[0].at
    cuts = cuts_of(history)
    reasons = [reason for reason, _ in Counter(change.reason for _, change in cuts).most_common()]
    for place, reason in enumerate(reasons[:_MOST_REASONS]):
        rest = reasons[place:] if place == _MOST_REASONS - 1 else [reason]
        marked = [(before, change) for before, change in cuts if change.reason in rest]
        times = f" (×{len(marked)})" if len(marked) > 1 else ""
        axes.plot(
            [change.at - began for _, change in marked],
            [before for before, _ in marked],
            linestyle="none",
            marker=_MARKERS[place],
            color=COLOURS[-1 - place],
            markeredgecolor="#333333",
            markersize=6,
            label=f"{reason if len(rest) == 1 else 'other reasons'}{times}",
        )
    if cuts:
        figure.legend(frameon=False, ncols=2, loc="outside lower center", fontsize=8)


def cuts_of(history: Sequence[LimitChange]) -> list[tuple[int, LimitChange]]:
    """The changes that took something away, each with the limit before it.

    A step down to see whether less is enough is none, nor is the way back from a step up.
    """
    cuts = []
    usual = 0
    for before, change in pairwise(history):
        usual = usual if before.phase == "climbing" else before.limit
        fell = change.limit < (before.limit if change.phase == "recovering" else usual)
        if fell and change.phase not in ("lowering", "fixed"):
            cuts.append((before.limit, change))
    return cuts


def describe_limit(history: Sequence[LimitChange], end: float) -> str:
    """Where the limit ended, between which it moved, and how often it was cut."""
    limits = [change.limit for change in history]
    cuts = len(cuts_of(history))
    count = f"after {cuts} cut{'s' if cuts > 1 else ''}" if cuts else "without a cut"
    return (
        f"The limit is {limits[-1]} {count} in {end - history[0].at:.0f} s "
        f"(lowest {min(limits)}, highest {max(limits)})."
    )


def _title(figure: Figure, finding: str) -> None:
    title = figure.suptitle(
        textwrap.fill(finding, _TITLE_CHARS), x=0.01, horizontalalignment="left", fontsize=9
    )
    title.set_parse_math(False)
