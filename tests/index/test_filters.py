"""Every filter operator over four positions, counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from rag_lab.errors import SettingsError
from rag_lab.index.filters import mask_of

COLUMNS: dict[str, list[Any]] = {
    "year": [1999, 2007, 2031, None],
    "kind": ["TV", "Movie", "TV", None],
    "tags": [["sea", "war"], ["war"], [], None],
    "title": ["Umi no Kikai", "The Sea", "", None],
}


def column(key: str) -> list[Any]:
    return COLUMNS.get(key, [None] * 4)


def passed(filters: MetadataFilters) -> list[int]:
    mask = mask_of(filters, column, 4)
    assert (mask.dtype, mask.shape) == (np.bool_, (4,))
    return np.flatnonzero(mask).tolist()


def one(key: str, operator: str, value: Any) -> MetadataFilter:
    return MetadataFilter(key=key, operator=FilterOperator(operator), value=value)


def group(condition: str, *entries: MetadataFilter | MetadataFilters) -> MetadataFilters:
    return MetadataFilters(filters=list(entries), condition=FilterCondition(condition))


@pytest.mark.parametrize(
    ("key", "operator", "value", "positions"),
    [
        ("year", "==", 2007, [1]),
        ("year", "!=", 2007, [0, 2, 3]),
        ("year", ">", 2007, [2]),
        ("year", ">=", 2007, [1, 2]),
        ("year", "<", 2007, [0]),
        ("year", "<=", 2007, [0, 1]),
        ("kind", "in", ["TV", "OVA"], [0, 2]),
        ("kind", "nin", ["TV", "OVA"], [1, 3]),
        ("tags", "any", ["sea", "sky"], [0]),
        ("tags", "any", ["war"], [0, 1]),
        ("tags", "all", ["sea", "war"], [0]),
        ("tags", "all", ["war"], [0, 1]),
        ("tags", "contains", "war", [0, 1]),
        ("title", "text_match", "Sea", [1]),
        ("title", "text_match", "sea", []),
        ("title", "text_match_insensitive", "SEA", [1]),
        ("tags", "text_match", "wa", [0, 1]),
        ("tags", "is_empty", None, [2, 3]),
        ("title", "is_empty", None, [2, 3]),
        ("nowhere", "==", "x", []),
        ("nowhere", "is_empty", None, [0, 1, 2, 3]),
    ],
)
def test_operators(key: str, operator: str, value: Any, positions: list[int]) -> None:
    assert passed(group("and", one(key, operator, value))) == positions


@pytest.mark.parametrize("operator", list(FilterOperator))
def test_every_operator_of_llama_index_is_known(operator: FilterOperator) -> None:
    listed = operator.value in ("in", "nin", "any", "all")
    passed(group("and", one("kind", operator.value, ["TV"] if listed else "TV")))


OLD, TV, WAR = one("year", "<", 2010), one("kind", "==", "TV"), one("tags", "contains", "war")


def test_conditions() -> None:
    assert passed(group("and", OLD, TV)) == [0]
    assert passed(group("or", OLD, TV)) == [0, 1, 2]
    assert passed(group("not", TV)) == [1, 3]
    assert passed(MetadataFilters(filters=[OLD, TV])) == [0]


def test_groups_nest() -> None:
    assert passed(group("and", WAR, group("or", TV, group("not", OLD)))) == [0]
    assert passed(group("or", group("and", OLD, TV), group("not", WAR))) == [0, 2, 3]


@pytest.mark.parametrize("condition", ["and", "or", "not"])
def test_an_empty_group_lets_everything_through(condition: str) -> None:
    assert passed(group(condition)) == [0, 1, 2, 3]


def test_values_that_cannot_be_compared_are_named() -> None:
    with pytest.raises(SettingsError, match="filter year > '2007' does not fit the values there"):
        passed(group("and", one("year", ">", "2007")))
    with pytest.raises(SettingsError, match="filter kind in 7 does not fit"):
        passed(group("and", one("kind", "in", 7)))


def test_no_position_at_all() -> None:
    assert mask_of(group("and", TV), lambda key: [], 0).tolist() == []


_ENTRY = st.sampled_from([OLD, TV, WAR])
_TREE = st.recursive(
    _ENTRY,
    lambda inner: st.builds(
        lambda condition, entries: group(condition, *entries),
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


def allows(entry: MetadataFilter | MetadataFilters, position: int) -> bool:
    """The same, one position at a time."""
    if isinstance(entry, MetadataFilter):
        return position in {id(OLD): (0, 1), id(TV): (0, 2), id(WAR): (0, 1)}[id(entry)]
    inner = [allows(part, position) for part in entry.filters]
    return any(inner) if entry.condition is FilterCondition.OR else all(inner)


@given(_TREE)
def test_trees_of_filters_are_plain_logic(tree: MetadataFilter | MetadataFilters) -> None:
    assert passed(group("and", tree)) == [n for n in range(4) if allows(tree, n)]
    assert passed(group("not", tree)) == [n for n in range(4) if not allows(tree, n)]
