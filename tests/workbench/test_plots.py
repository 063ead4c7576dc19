"""Figures state their finding, in words too; the arithmetic behind them is worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from rag_lab.errors import SettingsError
from rag_lab.gateway.rounds import LimitChange, Phase
from rag_lab.records import Span, Stage, Timing
from rag_lab.workbench import plots

Shown = list[tuple[Figure, str]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Figures instead of PNGs, each drawn once so that what cannot be drawn fails here."""
    figures: Shown = []

    def keep(figure: Figure, alternative: str) -> None:
        figure.canvas.draw()
        figures.append((figure, alternative))
        plt.close(figure)

    monkeypatch.setattr(plots, "show", keep)
    return figures


def timing(*spans: tuple[Stage, float, float], total_s: float | None = None) -> Timing:
    made = tuple(Span(*span) for span in spans)
    return Timing(max(span.ended_s for span in made) if total_s is None else total_s, {}, made)


def history(*changes: tuple[float, int, Phase, str]) -> list[LimitChange]:
    return [LimitChange(*change) for change in changes]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


REQUESTS: Mapping[str, Timing] = {
    "q1": timing(("limiter", 0.0, 1.0), ("call", 1.0, 3.0)),
    "q2": timing(("search", 0.0, 1.0), ("synthesise", 1.0, 5.0), ("call", 1.5, 5.0)),
}


def test_a_moment_counts_for_the_stage_that_began_last() -> None:
    assert REQUESTS["q2"].own_s() == {"search": 1.0, "synthesise": 0.5, "call": 3.5}


def test_stages_at_the_same_time_count_once() -> None:
    three = timing(("search", 0.0, 2.0), ("search", 0.0, 3.0), ("search", 4.0, 5.0))
    assert three.own_s() == {"search": 4.0}
    assert Timing().own_s() == {}


def test_the_finding_of_a_waterfall_is_worked_out() -> None:
    # Calls: 2 s and 3.5 s, of 3 s and 5 s.
    assert plots.describe_waterfall(REQUESTS) == (
        "The provider's call takes 69 % of the time. q2 takes 5.00 s, the longest of 2."
    )
    one = {"q1": timing(("search", 0.0, 0.1), total_s=0.2)}
    assert plots.describe_waterfall(one) == "Search takes 50 % of the time. q1 takes 0.20 s."
    assert plots.describe_waterfall({"Q1": Timing()}) == "Q1 takes 0.00 s."


def test_a_waterfall_shows_each_request_and_the_stages_there_are(shown: Shown) -> None:
    plots.plot_waterfall(REQUESTS)
    ((figure, alternative),) = shown
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["q1", "q2"]
    assert axes.get_xlabel() == "seconds since the scheduled start"
    assert len(axes.patches) == 5
    assert legend(figure) == [
        "waiting for a slot",
        "the provider's call",
        "search",
        "writing the answer",
    ]
    assert figure.get_suptitle() in alternative.replace("\n", " ")
    assert "69 % of the time" in alternative


def test_stages_at_the_same_time_do_not_cover_each_other(shown: Shown) -> None:
    plots.plot_waterfall(REQUESTS)
    bars = [bar.get_bbox() for bar in shown[0][0].axes[0].patches]  # type: ignore[attr-defined]
    for place, bar in enumerate(bars):
        for other in bars[place + 1 :]:
            apart_x = bar.x1 <= other.x0 + 1e-9 or other.x1 <= bar.x0 + 1e-9
            apart_y = bar.y1 <= other.y0 + 1e-9 or other.y1 <= bar.y0 + 1e-9
            assert apart_x or apart_y


def test_stages_differ_without_colour() -> None:
    looks = {(colour, hatch) for _, colour, hatch in plots._STAGES.values()}
    assert len(looks) == len(plots._STAGES)
    waits = [plots._STAGES[stage] for stage in ("queue", "limiter", "budget", "backoff")]
    assert len({hatch for _, _, hatch in waits}) == 4


def test_of_many_requests_the_slowest_are_shown_in_their_order(shown: Shown) -> None:
    plots.plot_waterfall({f"q{n}": timing(("call", 0.0, n / 10)) for n in range(1, 41)})
    ((figure, alternative),) = shown
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"q{n}" for n in range(11, 41)]
    assert "The 30 slowest are shown." in alternative


def test_names_are_shortened_and_no_formulas(shown: Shown) -> None:
    plots.plot_waterfall({"What do $5 and $6 buy, and for whom, and where?": REQUESTS["q1"]})
    (label,) = shown[0][0].axes[0].get_yticklabels()
    assert label.get_text() == "What do $5 and $6 buy, and for…"
    assert not label.get_parse_math()


def test_requests_without_stages_can_be_drawn(shown: Shown) -> None:
    plots.plot_waterfall({"q1": Timing(0.5), "q2": Timing(0.25)})
    plots.plot_waterfall({"q1": Timing()})
    assert [legend(figure) for figure, _ in shown] == [[], []]


def test_a_waterfall_without_requests_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least one request"):
        plots.plot_waterfall({})


CHANGES = history(
    (10.0, 16, "doubling", "start"),
    (11.0, 32, "doubling", "doubled: it pays"),
    (12.0, 25, "recovering", "too many requests (429)"),
    (13.0, 30, "steady", "just under 32"),
    (15.0, 24, "lowering", "is less enough?"),
    (16.0, 30, "steady", "24 earned less"),
    (17.0, 32, "climbing", "is more worth it?"),
    (18.0, 34, "climbing", "a clean round"),
    (19.0, 30, "steady", "34 earned no more"),
    (20.0, 32, "climbing", "is more worth it?"),
    (21.0, 21, "steady", "most calls time out"),
    (22.0, 4, "fixed", "fixed by the user"),
)


def test_cuts_are_what_took_something_away() -> None:
    assert [(before, change.limit, change.reason) for before, change in plots.cuts_of(CHANGES)] == [
        (32, 25, "too many requests (429)"),
        (32, 21, "most calls time out"),
    ]


def test_a_cut_while_climbing_counts_even_if_it_ends_where_the_climb_began() -> None:
    changes = history(
        (0.0, 20, "steady", "start"),
        (1.0, 25, "climbing", "is more worth it?"),
        (2.0, 20, "recovering", "too many requests (429)"),
    )
    assert len(plots.cuts_of(changes)) == 1


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        (CHANGES, "The limit is 4 after 2 cuts in 20 s (lowest 4, highest 34)."),
        (CHANGES[:3], "The limit is 25 after 1 cut in 20 s (lowest 16, highest 32)."),
        (CHANGES[:2], "The limit is 32 without a cut in 20 s (lowest 16, highest 32)."),
    ],
)
def test_the_finding_of_a_limit(changes: Sequence[LimitChange], finding: str) -> None:
    assert plots.describe_limit(changes, 30.0) == finding


def test_a_limit_is_drawn_as_steps_with_its_cuts(shown: Shown) -> None:
    plots.plot_limit(CHANGES, until=30.0)
    ((figure, alternative),) = shown
    (axes,) = figure.axes
    steps, *marks = axes.lines
    assert steps.get_drawstyle() == "steps-post"
    assert list(steps.get_xdata())[-2:] == [12.0, 20.0]
    assert list(steps.get_ydata())[-2:] == [4, 4]
    assert [(*mark.get_xdata(), *mark.get_ydata()) for mark in marks] == [(2.0, 32), (11.0, 32)]
    assert len({mark.get_marker() for mark in marks}) == 2
    assert legend(figure) == ["too many requests (429)", "most calls time out"]
    assert "after 2 cuts in 20 s" in alternative
    assert axes.get_ylabel() == "calls that may be in flight"


def test_rare_reasons_are_told_together_and_frequent_ones_counted(shown: Shown) -> None:
    changes = history((0.0, 100, "steady", "start"))
    for at, reason in enumerate(["429", "429", "a", "b", "c", "d", "e"], 1):
        changes += history((at, 50, "recovering", reason), (at + 0.5, 100, "doubling", "up"))
    plots.plot_limit(changes)
    assert legend(shown[0][0]) == ["429 (×2)", "a", "b", "c", "other reasons (×2)"]


def test_a_limit_that_never_moved_can_be_drawn(shown: Shown) -> None:
    plots.plot_limit(CHANGES[:1])
    plots.plot_limit(CHANGES[:1], until=12.0)
    assert "The limit is 16 without a cut in 2 s" in shown[1][1]


def test_a_limit_without_history_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least one change"):
        plots.plot_limit([])


def test_a_figure_is_shown_with_its_words_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[tuple[dict[str, object], dict[str, dict[str, str]]]] = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda data, metadata, raw: published.append((data, metadata)),
    )
    plots.plot_limit(CHANGES)
    ((data, metadata),) = published
    png = data["image/png"]
    assert isinstance(png, bytes)
    assert png.startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == data["text/plain"]
    assert plt.get_fignums() == []
