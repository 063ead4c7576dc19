"""LlamaIndex over a snapshot: its own retriever, its filters, really asynchronous queries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)

from rag_lab.errors import IndexStateError
from rag_lab.index import LabIndex
from rag_lab.index.store import SnapshotVectorStore
from small import FRUITS, indexed


@pytest.fixture
async def index() -> AsyncIterator[LabIndex]:
    made = await indexed()
    yield made
    made.close()


def is_(key: str, value: Any, operator: str = "==") -> MetadataFilter:
    return MetadataFilter(key=key, value=value, operator=FilterOperator(operator))


def any_of(*entries: Any, condition: str = "and") -> MetadataFilters:
    return MetadataFilters(filters=[*entries], condition=FilterCondition(condition))


FRUIT, ROOT = is_("kind", "fruit"), is_("kind", "root")
TITLES = is_("title", ["Apple", "Carrot"], "in")
FILTERED = [
    (any_of(FRUIT), {"apple", "banana", "durian"}),
    (any_of(TITLES), {"apple", "carrot"}),
    (any_of(FRUIT, TITLES), {"apple"}),
    (any_of(ROOT, TITLES, condition="or"), {"apple", "carrot"}),
    (any_of(FRUIT, condition="not"), {"carrot"}),
    (any_of(FRUIT, any_of(TITLES, condition="not")), {"banana", "durian"}),
]


async def test_llama_index_retrieves_by_its_own_means(index: LabIndex) -> None:
    retriever = index.vector_index().as_retriever(similarity_top_k=2)
    found = await retriever.aretrieve("a yellow banana from warm valleys")
    assert found[0].node.node_id == "banana"
    assert found[0].node.get_content() == FRUITS["banana"][1]
    assert 0.5 < found[0].score <= 1.000001
    assert len(found) == 2


@pytest.mark.parametrize(("filters", "expected"), FILTERED)
async def test_filters_decide_what_is_found(
    index: LabIndex, filters: MetadataFilters, expected: set[str]
) -> None:
    retriever = index.vector_index().as_retriever(similarity_top_k=10, filters=filters)
    found = await retriever.aretrieve("apple banana carrot durian")
    assert {hit.node.node_id for hit in found} == expected


async def test_a_filter_that_nothing_passes_finds_nothing(index: LabIndex) -> None:
    mineral = any_of(is_("kind", "mineral"))
    retriever = index.vector_index().as_retriever(filters=mineral)
    assert await retriever.aretrieve("apple banana carrot durian") == []


def test_the_synchronous_way_finds_the_same() -> None:
    index = asyncio.run(indexed())
    found = index.vector_index().as_retriever(similarity_top_k=1).retrieve("orange root")
    assert [hit.node.node_id for hit in found] == ["carrot"]
    index.close()


async def test_ids_narrow_a_query(index: LabIndex) -> None:
    store = SnapshotVectorStore(index)
    vector = (await index.embedder.embed_query("apple banana carrot durian")).tolist()
    for narrowed in ({"node_ids": ["carrot"]}, {"doc_ids": ["carrot"]}):
        query = VectorStoreQuery(query_embedding=vector, similarity_top_k=5, **narrowed)
        assert (await store.aquery(query)).ids == ["carrot"]
    both = VectorStoreQuery(query_embedding=vector, node_ids=["carrot"], doc_ids=["apple"])
    assert store.query(both).ids == []


async def test_similarities_do_not_depend_on_the_length_of_the_query(index: LabIndex) -> None:
    store = SnapshotVectorStore(index)
    vector = await index.embedder.embed_query("spiny fruit")
    short = store.query(VectorStoreQuery(query_embedding=vector.tolist()))
    long = store.query(VectorStoreQuery(query_embedding=(vector * 7).tolist()))
    assert (short.ids, short.similarities) == (long.ids, pytest.approx(long.similarities))


async def test_a_query_without_a_vector_is_refused(index: LabIndex) -> None:
    with pytest.raises(IndexStateError, match="needs query_embedding"):
        await SnapshotVectorStore(index).aquery(VectorStoreQuery(query_str="apple"))


class _Probe:
    """Counts its turns on the event loop while a block of code runs."""

    turns = 0

    async def __aenter__(self) -> _Probe:
        self._task = asyncio.create_task(self._count())
        await asyncio.sleep(0)
        self.turns = 0
        return self

    async def _count(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0.001)

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()


@pytest.mark.parametrize("way", ["aquery", "retriever", "search_dense", "search_keywords"])
async def test_searching_leaves_the_event_loop_free(
    index: LabIndex, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = index.keyword if way == "search_keywords" else index.vectors
    real = searched.search
    ran: list[bool] = []

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.1)
        ran.append(True)
        return real(*args, **kwargs)

    monkeypatch.setattr(searched, "search", slow)
    vector = (await index.embedder.embed_query("apple")).tolist()
    ways = {
        "aquery": lambda: SnapshotVectorStore(index).aquery(
            VectorStoreQuery(query_embedding=vector)
        ),
        "retriever": lambda: index.vector_index().as_retriever().aretrieve("apple"),
        "search_dense": lambda: index.search_dense("apple", 2),
        "search_keywords": lambda: index.search_keywords("apple", 2),
    }
    async with _Probe() as probe:
        await ways[way]()
        turns = probe.turns
    assert ran
    assert turns >= 3, "another task got no turn while the search ran"


async def test_nodes_can_be_read_by_id_and_by_filter(index: LabIndex) -> None:
    store = SnapshotVectorStore(index)
    assert [node.node_id for node in store.get_nodes(["durian", "apple"])] == ["durian", "apple"]
    assert len(store.get_nodes()) == 4
    fruits = await store.aget_nodes(filters=any_of(FRUIT))
    assert [node.node_id for node in fruits] == ["apple", "banana", "durian"]


async def test_a_snapshot_is_not_changed_through_llama_index(index: LabIndex) -> None:
    store, node = SnapshotVectorStore(index), TextNode(text="new", embedding=[0.1])
    for refused in (
        lambda: store.add([node]),
        lambda: store.delete("apple"),
        lambda: index.vector_index().insert_nodes([node]),
        lambda: index.vector_index().delete_ref_doc("apple"),
    ):
        with pytest.raises(IndexStateError, match=r"a snapshot does not change.*rag-lab ingest"):
            refused()
    with pytest.raises(IndexStateError, match="does not change"):
        await store.async_add([node])
    with pytest.raises(IndexStateError, match="does not change"):
        await store.adelete("apple")
    assert len(index) == 4


async def test_the_vector_index_needs_no_global_settings(index: LabIndex) -> None:
    made = index.vector_index()
    assert isinstance(made, VectorStoreIndex)
    assert made.vector_store.client is index
