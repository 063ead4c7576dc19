"""Dense, keyword and hybrid retrieval over three documents whose scores are worked out by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
import pytest
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import MetadataMode, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from rag_lab.corpora.base import in_memory
from rag_lab.corpora.law import Pasal
from rag_lab.errors import ModelError, ProviderError
from rag_lab.index import LabIndex
from rag_lab.retrieval import DenseRetriever, HybridRetriever, KeywordRetriever, SnapshotRetriever
from rag_lab.settings import RetrievalSettings, load_settings
from rag_lab.telemetry import tracing
from small import document, food, indexed


@pytest.fixture
async def index() -> AsyncIterator[LabIndex]:
    made = await indexed(food())
    yield made
    made.close()


class Scripted:
    """An index whose searches give what the test says; positions 0 and 1 are one document.

    A dense search that is an error is raised.
    """

    def __init__(self, index: LabIndex, dense: list[Any] | Exception, keyword: list[Any]) -> None:
        self._index, self._dense, self._keyword = index, dense, keyword
        self.keyword_searches = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    async def search_dense(self, query: str, k: int, allowed: Any = None) -> list[Any]:
        if isinstance(self._dense, Exception):
            raise self._dense
        return self._dense[:k]

    async def search_keywords(self, query: str, k: int, allowed: Any = None) -> list[Any]:
        self.keyword_searches += 1
        return self._keyword[:k]


@pytest.fixture
async def pieces() -> AsyncIterator[LabIndex]:
    """Document `long` is positions 0 and 1; `b` is 2, `c` is 3."""
    text = "\n".join(f"{word} " * 30 for word in ("first", "second"))
    documents = [document("long", "L", text), document("b", "B", "b"), document("c", "C", "c")]
    made = await indexed(
        in_memory("pieces", documents), load_settings(index={"max_node_chars": 220})
    )
    assert list(made.nodes.document_ids) == ["long", "long", "b", "c"]
    yield made
    made.close()


DENSE = [(1, 0.8), (2, 0.6), (0, 0.4)]
KEYWORD = [(2, 10.0), (0, 5.0), (3, 2.0)]


def hybrid(index: LabIndex, **chosen: Any) -> HybridRetriever:
    scripted: Any = Scripted(index, DENSE, KEYWORD)
    return HybridRetriever(scripted, load_settings(retrieval=chosen).retrieval)


async def ranked(retriever: SnapshotRetriever) -> list[tuple[str, float]]:
    return [(found.document_id, round(found.score, 6)) for found in await retriever.rank("?")]


async def test_convex_fusion_by_hand(pieces: LabIndex) -> None:
    # Folded: dense long .8, b .6; keyword b 10, long 5, c 2. Divided by the best of each list:
    # long .25 * 1 + .75 * .5; b .25 * .75 + .75 * 1; c .75 * .2
    assert await ranked(hybrid(pieces, dense_weight=0.25)) == [
        ("b", 0.9375),
        ("long", 0.625),
        ("c", 0.15),
    ]


async def test_rank_fusion_by_hand(pieces: LabIndex) -> None:
    # Ranks: dense long 1, b 2; keyword b 1, long 2, c 3; k = 60
    expected = [
        ("b", 0.5 / 62 + 0.5 / 61),
        ("long", 0.5 / 61 + 0.5 / 62),
        ("c", 0.5 / 63),
    ]
    found = await ranked(hybrid(pieces, dense_weight=0.5, fusion="reciprocal_rank"))
    assert dict(found) == pytest.approx(dict(expected), abs=1e-6)
    assert found[-1][0] == "c"


@pytest.mark.parametrize(("weight", "first"), [(0.0, "b"), (1.0, "long")])
async def test_a_weight_of_zero_or_one_is_one_half_alone(
    pieces: LabIndex, weight: float, first: str
) -> None:
    assert (await ranked(hybrid(pieces, dense_weight=weight)))[0] == (first, 1.0)


async def test_a_document_is_shown_by_its_best_node_and_scored_by_each_search(
    pieces: LabIndex,
) -> None:
    found = {entry.document_id: entry for entry in await hybrid(pieces).rank("?")}
    assert found["long"].scores == {"dense": 0.8, "keyword": 5.0}
    assert found["long"].position == 0  # the best of the keyword search, which weighs more
    assert found["c"].scores == {"keyword": 2.0}


OPENING = """Dalam undang-undang ini yang dimaksud dengan:
1. Menara suar adalah bangunan dengan lampu bagi kapal.
2. Karang adalah batu di bawah permukaan laut.
3. Penjaga adalah orang yang merawat lampu."""


@pytest.mark.parametrize("kind", [DenseRetriever, KeywordRetriever, HybridRetriever])
async def test_a_definition_is_searched_and_its_article_returned(
    kind: type[SnapshotRetriever],
) -> None:
    article = Pasal("uu-1901-1#pasal-1", "uu-1901-1", "UU 1/1901", "Menara Suar", "1", OPENING)
    other = document("b", "Kapal", "Kapal berlayar di laut.")
    made = in_memory("suar", [article.to_document("made.jsonl", 1), other], language="id")
    index = await indexed(made)
    first = (await kind(index).rank("Apa itu karang?"))[0]
    assert index.nodes.ids[first.position] == "uu-1901-1#pasal-1!def-2"
    (shown, *_) = await kind(index).aretrieve("Apa itu karang?")
    assert (shown.node.node_id, shown.text) == ("uu-1901-1#pasal-1", OPENING)
    unfolded = kind(index, load_settings(retrieval={"fold": False}).retrieval)
    (part, *_) = await unfolded.aretrieve("Apa itu karang?")
    assert part.node.node_id == "uu-1901-1#pasal-1!def-2"
    index.close()


async def test_without_folding_every_node_is_ranked(pieces: LabIndex) -> None:
    found = await hybrid(pieces, fold=False, dense_weight=0.5).rank("?")
    # 2: .5 * .75 + .5; 1: .5; 0: .5 * .5 + .5 * .5; 3: .5 * .2
    assert [(entry.position, entry.score) for entry in found] == [
        (2, pytest.approx(0.875)),
        (1, pytest.approx(0.5)),
        (0, pytest.approx(0.5)),
        (3, pytest.approx(0.1)),
    ]


async def test_documents_are_ranked_once_each_even_without_folding(pieces: LabIndex) -> None:
    found = await hybrid(pieces, fold=False, dense_weight=0.5).rank_documents("?", 2)
    assert found == [("b", pytest.approx(0.875)), ("long", pytest.approx(0.5))]


def test_the_default_weight_depends_on_the_embedder(index: LabIndex) -> None:
    assert HybridRetriever(index).dense_weight == 0.1
    assert (
        HybridRetriever(index, load_settings(retrieval={"dense_weight": 0}).retrieval).dense_weight
        == 0
    )
    index.embedder = object()  # type: ignore[assignment]
    assert HybridRetriever(index).dense_weight == 0.5


async def test_nodes_carry_document_and_scores_in_their_metadata(index: LabIndex) -> None:
    found = await HybridRetriever(index).aretrieve("yellow fruit of warm valleys")
    first = found[0].node
    assert (first.node_id, first.metadata["document_id"]) == ("banana", "banana")
    assert set(first.metadata["scores"]) == {"dense", "keyword"}
    assert first.metadata["kind"] == "fruit"
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert "scores" not in index.nodes[0].metadata


@pytest.mark.parametrize("kind", [DenseRetriever, KeywordRetriever, HybridRetriever])
async def test_every_retriever_honours_filters_and_top_k(
    index: LabIndex, kind: type[SnapshotRetriever]
) -> None:
    question = "apple banana carrot durian"
    roots = MetadataFilters(filters=[MetadataFilter(key="kind", value="root")])
    assert [hit.node.node_id for hit in await kind(index, filters=roots).aretrieve(question)] == [
        "carrot"
    ]
    two = kind(index, load_settings(retrieval={"top_k": 2}).retrieval)
    assert len(await two.aretrieve(question)) == 2
    assert len(await two.rank_documents(question)) == 4


@pytest.mark.parametrize("kind", [DenseRetriever, KeywordRetriever, HybridRetriever])
@pytest.mark.parametrize("question", ["", "   ", "zzz qqq", "?!"])
async def test_a_question_of_unknown_words_finds_nothing(
    index: LabIndex, kind: type[SnapshotRetriever], question: str
) -> None:
    assert await kind(index).aretrieve(question) == []
    assert await kind(index).rank_documents(question) == []


async def test_sync_and_async_and_bundles_agree(index: LabIndex) -> None:
    retriever = HybridRetriever(index)
    awaited = await retriever.aretrieve("orange root")
    for found in (
        retriever.retrieve("orange root"),  # inside a running loop
        await retriever.aretrieve(QueryBundle("orange root")),
    ):
        assert [(hit.node_id, hit.score) for hit in found] == [
            (hit.node_id, hit.score) for hit in awaited
        ]


async def test_it_works_inside_llama_index_query_engines(index: LabIndex) -> None:
    synthesizer = get_response_synthesizer(llm=MockLLM(max_tokens=5))
    engine = RetrieverQueryEngine(HybridRetriever(index), response_synthesizer=synthesizer)
    response = await engine.aquery("which fruit is spiny?")
    assert isinstance(response, Response)
    assert response.source_nodes[0].node.node_id == "durian"


async def test_dense_scores_are_the_cosines_of_the_vectors(index: LabIndex) -> None:
    question = "red fruit of cool orchards"
    query = await index.embedder.embed_query(question)
    texts = await index.embedder.embed_documents([node.embedded_text for node in index.nodes])
    similar = texts.matrix @ query
    cosines: Mapping[str, float] = dict(zip(index.nodes.ids, similar, strict=True))
    found = await DenseRetriever(index).rank_documents(question)
    assert dict(found) == pytest.approx({key: float(cosines[key]) for key, _ in found}, abs=1e-5)
    assert [key for key, _ in found] == sorted(cosines, key=lambda key: -cosines[key])


async def test_keyword_scores_are_those_of_the_index(index: LabIndex) -> None:
    question = "red fruit of cool orchards"
    scores = index.keyword.scores(index.analyzer.tokens(question))
    found = await KeywordRetriever(index).rank_documents(question)
    expected = {index.nodes.ids[p]: scores[p] for p in np.flatnonzero(scores)}
    assert dict(found) == pytest.approx(expected)


DOWN = ProviderError("embedding model 'm' at host:1 is at its limit (HTTP 429). Run again later.")
REASON = "keyword search only: embedding model 'm' at host:1 is at its limit (HTTP 429)"


@pytest.mark.parametrize("fusion", ["convex", "reciprocal_rank"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
async def test_while_embeddings_fail_keywords_are_searched_and_it_is_said(
    pieces: LabIndex, fusion: str, weight: float
) -> None:
    scripted: Any = Scripted(pieces, DOWN, KEYWORD)
    chosen = load_settings(retrieval={"fusion": fusion, "dense_weight": weight}).retrieval
    with tracing() as trace:
        found = await HybridRetriever(scripted, chosen).aretrieve("?")
    assert [hit.node.metadata["document_id"] for hit in found] == ["b", "long", "c"]
    assert [hit.score for hit in found] == sorted({hit.score for hit in found}, reverse=True)
    assert trace.degraded == [REASON]
    assert scripted.keyword_searches == 1
    for hit in found:
        assert hit.node.metadata["degraded"] == REASON
        assert set(hit.node.metadata["scores"]) == {"keyword"}
        assert "keyword search only" not in hit.node.get_content(MetadataMode.LLM)


async def test_a_wrong_key_is_not_passed_over(pieces: LabIndex) -> None:
    scripted: Any = Scripted(pieces, ModelError("refused the key"), KEYWORD)
    with pytest.raises(ModelError, match="refused the key"):
        await HybridRetriever(scripted).aretrieve("?")


async def test_dense_search_alone_never_makes_do_with_less(pieces: LabIndex) -> None:
    scripted: Any = Scripted(pieces, DOWN, KEYWORD)
    with pytest.raises(ProviderError):
        await DenseRetriever(scripted).aretrieve("?")


async def test_nodes_of_a_sound_search_are_not_marked(index: LabIndex) -> None:
    with tracing() as trace:
        (first, *_) = await HybridRetriever(index).aretrieve("banana")
    assert "degraded" not in first.node.metadata
    assert trace.degraded == []
    assert {"search", "fuse"} <= set(trace.timing().stages_s)


async def test_no_more_are_ranked_than_asked_for(index: LabIndex) -> None:
    retriever = HybridRetriever(index, load_settings(retrieval={"top_k": 3}).retrieval)
    everything = await retriever.rank("apple banana carrot durian")
    assert await retriever.rank("apple banana carrot durian", 2) == everything[:2]
    for k, expected in ((1, 1), (None, 3), (9, 3)):
        assert len(await retriever.nodes("apple banana carrot durian", k)) == expected


def test_settings_default_to_convex_fusion() -> None:
    assert RetrievalSettings().fusion == "convex"
