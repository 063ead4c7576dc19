"""Figures that a notebook leaves for tests and reports: a hidden output with a type of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rag_lab.errors import ReportError

MIME = "application/vnd.rag-lab.record+json"


def record(**figures: Any) -> None:
    """Records figures and settings in the output of the current cell.

    Raises:
        ReportError: a value cannot be written as JSON, or is NaN or infinite.
    """
    from IPython.display import display

    for name, value in figures.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ReportError(f"record({name}=…): {value} is no figure; leave it out and say why.")
    try:
        content = json.loads(json.dumps(figures, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ReportError(f"record: {error}; figures must be plain JSON values.") from None
    names = ", ".join(figures)
    display({MIME: content, "text/plain": f"recorded: {names}"}, raw=True)


def read_record(notebook: Path | Mapping[str, Any]) -> dict[str, Any]:
    """The figures recorded in an executed notebook; later cells win.

    Raises:
        ReportError: the notebook recorded nothing.
    """
    content = (
        json.loads(notebook.read_text(encoding="utf-8")) if isinstance(notebook, Path) else notebook
    )
    figures: dict[str, Any] = {}
    for cell in content["cells"]:
        for output in cell.get("outputs", ()):
            figures |= output.get("data", {}).get(MIME, {})
    if not figures:
        raise ReportError("the notebook recorded no figures: was it executed to its end?")
    return figures
