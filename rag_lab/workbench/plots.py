"""Figures for notebooks: small, titled with the finding, readable without colour."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rag_lab.evaluation import Comparison

# Okabe & Ito's colours, told apart by most colour-blind readers; ordered by falling lightness.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00")
_TITLE_CHARS = 84
HATCHES = ("", "//", "..", "xx", "\\\\")


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
    means = [comparison.tables[system].mean(measure) for measure in measures]
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
            f"{system} {table.mean(measure):.3f}" for system, table in comparison.tables.items()
        )
        parts.append(f"{measure}: {values}")
    return f"Bar chart of {comparison.corpus}. {'; '.join(parts)}. {comparison.verdict()}"
