"""What a question names comes first, and what does not exist is not answered around."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from lawbook import lawbook, shows
from rag_lab.errors import ProviderError
from rag_lab.index import LabIndex
from rag_lab.retrieval.named import NamedRetriever, named_in
from small import food, indexed


@pytest.fixture
async def law() -> AsyncIterator[LabIndex]:
    made = await indexed(lawbook())
    yield made
    made.close()


@pytest.fixture
async def anime() -> AsyncIterator[LabIndex]:
    made = await indexed(shows())
    yield made
    made.close()


async def ids(index: LabIndex, question: str) -> list[str]:
    return [document_id for document_id, _ in await NamedRetriever(index).rank_documents(question)]


async def test_a_cited_article_is_first(law: LabIndex) -> None:
    found = await ids(law, "Apa isi Pasal 3 UU 7/2001 bagi pesawat di landasan?")
    assert found[0] == "uu-2001-7#pasal-3"
    assert len(found) > 1


async def test_several_cited_articles_come_in_the_order_named(law: LabIndex) -> None:
    found = await ids(law, "Pasal 2 UU 9/2005 dan Pasal 1 UU 7/2001")
    assert found[:2] == ["uu-2005-9#pasal-2", "uu-2001-7#pasal-1"]


async def test_a_citation_needs_no_vector(law: LabIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise ProviderError("a vector was asked for")

    monkeypatch.setattr(law, "search_dense", fails)
    nodes = await NamedRetriever(law).aretrieve("bunyi Pasal 1 UU 9/2005")
    assert nodes[0].node.node_id == "uu-2005-9#pasal-1"
    assert not any("degraded" in hit.node.metadata for hit in nodes)


@pytest.mark.parametrize("question", ["Pasal 9 UU 7/2001", "Pasal 1 UU 44/1999 tentang dermaga"])
async def test_what_does_not_exist_returns_nothing(law: LabIndex, question: str) -> None:
    retriever = NamedRetriever(law)
    assert await retriever.aretrieve(question) == []
    assert await retriever.rank_documents(question) == []
    assert (await named_in(law, question)).missing


async def test_what_exists_is_returned_beside_what_does_not(law: LabIndex) -> None:
    question = "Pasal 1 dan Pasal 9 UU 7/2001"
    assert (await ids(law, question))[0] == "uu-2001-7#pasal-1"
    assert (await named_in(law, question)).missing


async def test_an_article_without_a_law_is_chosen_by_the_rest(law: LabIndex) -> None:
    found = await ids(law, "uang pendaratan pesawat menurut Pasal 2")
    assert found[:2] == ["uu-2005-9#pasal-2", "uu-2001-7#pasal-2"]


async def test_a_law_named_as_a_whole_counts_more_but_leaves_none_out(law: LabIndex) -> None:
    question = "apakah pesawat wajib membayar menurut UU 7/2001"
    found = await ids(law, question)
    assert found[0] == "uu-2001-7#pasal-2"
    assert "uu-2005-9#pasal-2" in found


async def test_a_show_is_found_by_another_name_and_a_typo(anime: LabIndex) -> None:
    assert (await ids(anime, "who sails in the akai lmap?"))[0] == "lamp"
    assert (await ids(anime, "what is mast of the wind II about?"))[0] == "mast-2"


async def test_a_series_is_told_apart_by_the_rest(anime: LabIndex) -> None:
    found = await ids(anime, "Kaze no Mast, where the old ship is mended")
    assert found[:2] == ["mast", "mast-2"]
    found = await ids(anime, "Kaze no Mast, where they sail north")
    assert found[:2] == ["mast-2", "mast"]


async def test_filters_hold_for_what_is_named(anime: LabIndex) -> None:
    only = MetadataFilters(filters=[MetadataFilter(key="title", value="Akai Lamp")])
    nodes = await NamedRetriever(anime, filters=only).aretrieve("Kaze no Mast by the sea")
    assert [hit.node.node_id for hit in nodes] == ["lamp"]


async def test_nodes_tell_that_they_were_named(law: LabIndex) -> None:
    (first, second, *_) = await NamedRetriever(law).aretrieve("Pasal 1 UU 9/2005 landasan kapal")
    assert first.node.metadata["scores"]["named"] == 1
    assert "named" not in second.node.metadata["scores"]
    assert first.score is not None
    assert second.score is not None
    assert first.score > second.score


async def test_other_documents_have_no_names() -> None:
    index = await indexed(food())
    try:
        named = await named_in(index, "apple Pasal 1 UU 7/2001")
        assert (named.first, named.among, named.missing) == ((), (), ())
        assert (await ids(index, "spiny fruit"))[0] == "durian"
    finally:
        index.close()


async def test_names_are_read_once(law: LabIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await named_in(law, "Pasal 1 UU 7/2001")
    monkeypatch.setattr(law, "read_columns", None)
    assert await named_in(law, "Pasal 1 UU 7/2001") is first
    assert (await named_in(law, "Pasal 2 UU 7/2001")).first == ("uu-2001-7#pasal-2",)
