"""LlamaIndex metadata filters, evaluated over the metadata columns of a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_lab.errors import SettingsError

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

Column = Callable[[str], Sequence[Any]]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _text_in(needle: Any, value: Any, *, fold: bool) -> bool:
    texts = [str(entry) for entry in _as_list(value)]
    if fold:
        return any(str(needle).casefold() in text.casefold() for text in texts)
    return any(str(needle) in text for text in texts)


_PREDICATES: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda have, want: have == want,
    "!=": lambda have, want: have != want,
    ">": lambda have, want: have is not None and have > want,
    ">=": lambda have, want: have is not None and have >= want,
    "<": lambda have, want: have is not None and have < want,
    "<=": lambda have, want: have is not None and have <= want,
    "in": lambda have, want: have in want,
    "nin": lambda have, want: have not in want,
    "any": lambda have, want: any(entry in _as_list(have) for entry in _as_list(want)),
    "all": lambda have, want: all(entry in _as_list(have) for entry in _as_list(want)),
    "contains": lambda have, want: want in _as_list(have),
    "text_match": lambda have, want: _text_in(want, have, fold=False),
    "text_match_insensitive": lambda have, want: _text_in(want, have, fold=True),
    "is_empty": lambda have, want: have in (None, "", []),
}


def mask_of(filters: MetadataFilters, column: Column, size: int) -> np.ndarray:
    """Which positions the filters let through, bool of shape (size,).

    Args:
        filters: possibly nested, joined by AND, OR or NOT.
        column: gives a metadata key's value for every position, None where it is absent.
        size: number of positions.

    Raises:
        SettingsError: an operator is unknown or does not fit the values.
    """
    from llama_index.core.vector_stores.types import MetadataFilters as Group

    masks = [
        mask_of(entry, column, size) if isinstance(entry, Group) else _mask(entry, column)
        for entry in filters.filters
    ]
    if not masks:
        return np.ones(size, bool)
    condition = str(getattr(filters.condition, "value", filters.condition or "and"))
    if condition == "or":
        either: np.ndarray = np.logical_or.reduce(masks)
        return either
    combined: np.ndarray = np.logical_and.reduce(masks)
    return ~combined if condition == "not" else combined


def _mask(entry: MetadataFilter, column: Column) -> np.ndarray:
    operator = str(entry.operator.value)
    predicate = _PREDICATES.get(operator)
    if predicate is None:
        raise SettingsError(
            f"filter operator {operator!r} is unknown; there are {', '.join(_PREDICATES)}."
        )
    try:
        passes = (predicate(have, entry.value) for have in column(entry.key))
        return np.fromiter(passes, bool)
    except TypeError as error:
        raise SettingsError(
            f"filter {entry.key} {operator} {entry.value!r} does not fit the values there: {error}."
        ) from None
