"""Parts of a question: at the same time, within bounds, each with an outcome of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

import watched
from rag_lab.asking.decompose import Decomposition
from rag_lab.asking.parts import Found, PartLimits, PartRun, PartsRetriever, ask_parts
from rag_lab.errors import ProviderError, SettingsError
from rag_lab.records import Usage
from rag_lab.retrieval import KeywordRetriever
from rag_lab.telemetry import degrade, spend, stage, tracing
from small import indexed


def by_model(*parts: str) -> Decomposition:
    return Decomposition(parts, "llm")


class Asked:
    """Asks a part by giving its text back; counts who is under way."""

    def __init__(self, act: Callable[[str], Awaitable[None]] | None = None) -> None:
        self.texts: list[str] = []
        self.under_way = self.most_under_way = 0
        self._act = act

    async def __call__(self, number: int, text: str) -> Found[str]:
        self.texts.append(text)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await (self._act(text) if self._act else asyncio.sleep(0))
        finally:
            self.under_way -= 1
        return Found(f"{number}:{text}", tuple(text.split()), f"<{text}>")


async def hang(text: str) -> None:
    await asyncio.Event().wait()


async def asked_with(
    act: Callable[[str], Awaitable[None]] | None, *parts: str, **limits: float
) -> tuple[list[PartRun[str]], Asked]:
    ask = Asked(act)
    return await ask_parts(by_model(*parts), ask, PartLimits(**limits)), ask  # type: ignore[arg-type]


def values(runs: list[PartRun[str]]) -> list[str]:
    return [run.found.value if run.found else run.outcome for run in runs]


async def test_parts_are_asked_at_the_same_time_and_come_in_order() -> None:
    together = asyncio.Barrier(3)

    async def meet(text: str) -> None:
        await together.wait()

    runs, _ = await asked_with(meet, "a", "b", "c")
    assert values(runs) == ["1:a", "2:b", "3:c"]
    assert {run.outcome for run in runs} == {"answered"}


@pytest.mark.parametrize("at_once", [1, 2, 8])
async def test_never_more_at_once_than_allowed(at_once: int) -> None:
    runs, ask = await asked_with(None, *"abcdef", at_once=at_once)
    assert ask.most_under_way == min(at_once, 6)
    assert len(values(runs)) == 6


async def test_a_late_part_is_cut_off_and_the_others_go_on() -> None:
    cut_off: list[str] = []

    async def hang_if_slow(text: str) -> None:
        if text == "slow":
            try:
                await hang(text)
            finally:
                cut_off.append(text)

    runs, ask = await asked_with(hang_if_slow, "a", "slow", "c", deadline_s=0.05)
    assert values(runs) == ["1:a", "failed", "3:c"]
    assert runs[1].reason == "not done within 0.05 s"
    assert cut_off == ["slow"]
    assert ask.under_way == 0


async def test_waiting_for_a_turn_counts_too() -> None:
    runs, ask = await asked_with(hang, "a", "b", at_once=1, deadline_s=0.02)
    assert values(runs) == ["failed", "failed"]
    assert ask.texts == ["a"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ProviderError("model 'm' cannot be reached. Run again later."), "model 'm' cannot be"),
        (ValueError("odd"), "ValueError: odd"),
        (TimeoutError("slow disk"), "slow disk"),
        (TimeoutError(), "TimeoutError"),
        (asyncio.CancelledError(), "RuntimeError: what it waited for was cancelled"),
    ],
)
async def test_a_part_that_fails_says_why(error: BaseException, reason: str) -> None:
    async def fail(text: str) -> None:
        if text == "b":
            raise error

    with tracing() as trace:
        runs, _ = await asked_with(fail, "a", "b", "c")
    assert [run.outcome for run in runs] == ["answered", "failed", "answered"]
    assert runs[1].reason.startswith(reason)
    assert trace.degraded == [f"part 2 failed: {runs[1].reason}"]


def test_cancelling_the_question_cancels_its_parts() -> None:
    ended: list[str] = []

    async def hang_on(text: str) -> None:
        try:
            await hang(text)
        finally:
            ended.append(text)

    async def main() -> None:
        task = asyncio.create_task(asked_with(hang_on, "a", "b"))
        await watched.settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(ended) == ["a", "b"]

    watched.run(main)


async def test_each_part_has_its_own_time_and_usage_and_the_whole_has_all() -> None:
    async def use(text: str) -> None:
        with stage("search"):
            await asyncio.sleep(0)
        spend(Usage(calls=len(text)))
        degrade(f"no {text}")
        if text == "bb":
            raise ValueError(text)

    with tracing() as whole:
        runs, _ = await asked_with(use, "a", "bb", "ccc")
    assert [run.usage.calls for run in runs] == [1, 2, 3]
    assert whole.usage.calls == 6
    assert [list(run.timing.stages_s) for run in runs] == [["search"]] * 3
    spans = whole.timing().spans
    assert [span.stage for span in spans] == ["search"] * 3
    assert sum(span.seconds for span in spans) == pytest.approx(
        sum(run.timing.stages_s["search"] for run in runs)
    )
    assert set(whole.degraded) == {"no a", "no bb", "no ccc", "part 2 failed: ValueError: bb"}


async def test_parts_that_need_answers_wait_for_them() -> None:
    runs, ask = await asked_with(None, "born where, #2", "who made it", "when, #1 of #2")
    assert ask.texts[0] == "who made it"
    assert runs[0].text == "born where, <who made it>"
    assert runs[2].text == "when, <born where, <who made it>> of <who made it>"


async def test_parts_that_wait_for_each_other_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="#1"):
        await asked_with(None, "after #2", "after #1")


async def test_what_looks_like_a_reference_in_a_question_is_none() -> None:
    ask = Asked()
    parts = Decomposition(("who is #1", "who is #7"), "rules")
    runs = await ask_parts(parts, ask, PartLimits())
    assert [run.text for run in runs] == ["who is #1", "who is #7"]


async def test_without_the_answer_it_needs_a_part_ends_as_that_one_did() -> None:
    async def ask(number: int, text: str) -> Found[str]:
        if text == "fail":
            raise ValueError("odd")
        return Found(text, refused="nothing was retrieved")

    parts = by_model("fail", "nothing", "#1 then", "#2 then", "#3 then")
    runs = await ask_parts(parts, ask, PartLimits())
    assert [run.outcome for run in runs] == ["failed", "refused", "failed", "refused", "failed"]
    assert runs[2].reason == "it needs the answer of part 1, which has none: ValueError: odd"
    assert runs[3].reason == "it needs the answer of part 2, which has none: nothing was retrieved"


async def test_parts_stop_when_one_brings_nothing_new() -> None:
    # A part's documents are its words here.
    parts = ("x y", "y z", "z x", "new")
    runs, ask = await asked_with(None, *parts, stop_when_no_news=True)
    assert ask.texts == ["x y", "y z", "z x"]
    assert ask.most_under_way == 1
    assert values(runs) == ["1:x y", "2:y z", "3:z x", "skipped"]
    assert runs[3].reason == "part 3 had brought no new document"
    _, asked_all = await asked_with(None, *parts)
    assert len(asked_all.texts) == 4


async def test_a_part_without_documents_stops_nothing() -> None:
    async def fail(text: str) -> None:
        if text == "b":
            raise ValueError(text)

    runs, _ = await asked_with(fail, "a", "b", "", "c", stop_when_no_news=True)
    assert [run.outcome for run in runs] == ["answered", "failed", "answered", "answered"]


@pytest.mark.parametrize("limits", [{"at_once": 0}, {"deadline_s": 0}, {"deadline_s": -1}])
def test_limits_are_above_zero(limits: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(limits))} must be above 0, got"):
        PartLimits(**limits)


class Cut:
    """Takes a question apart at "and"."""

    def __init__(self, note: str = "") -> None:
        self.note = note

    async def decompose(self, question: str) -> Decomposition:
        parts = tuple(part.strip() for part in question.split(" and "))
        return Decomposition(parts, "llm", self.note)


class Shelf(BaseRetriever):
    """Finds the words of a query, each as a node; counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.asked.append(query_bundle.query_str)
        if "broken" in query_bundle.query_str:
            raise ValueError("the shelf is broken")
        return [
            NodeWithScore(node=TextNode(id_=word, text=word), score=1.0)
            for word in query_bundle.query_str.split()
        ]

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        raise NotImplementedError


def names(nodes: list[NodeWithScore]) -> list[str]:
    return [hit.node.node_id for hit in nodes]


async def test_a_question_that_stays_whole_goes_straight_to_the_retriever() -> None:
    shelf = Shelf()
    retriever = PartsRetriever(shelf, Cut())
    assert names(await retriever.aretrieve("a b")) == ["a", "b"]
    assert await retriever.rank_documents("a b", 1) == [("a", 1.0)]
    assert shelf.asked == ["a b", "a b"]


async def test_parts_are_retrieved_and_merged() -> None:
    shelf = Shelf()
    nodes = await PartsRetriever(shelf, Cut()).aretrieve("a b c and c d e")
    assert shelf.asked == ["a b c", "c d e"]
    assert names(nodes) == ["a", "c", "b"]  # as many as one question has
    assert names(await PartsRetriever(shelf, Cut()).aretrieve("a and b and c")) == ["a", "b", "c"]


async def test_documents_are_ranked_over_all_parts() -> None:
    retriever = PartsRetriever(Shelf(), Cut())
    ranked = await retriever.rank_documents("a b and b c")
    assert ranked == [("a", 1.0), ("b", 1 / 2), ("c", 1 / 3)]
    assert await retriever.rank_documents("a b and b c", 2) == ranked[:2]


async def test_here_a_reference_stands_for_the_words_of_the_part() -> None:
    shelf = Shelf()
    await PartsRetriever(shelf, Cut()).aretrieve("maker of it and born where #1")
    assert shelf.asked == ["maker of it", "born where maker of it"]


async def test_a_part_that_fails_is_left_out() -> None:
    retriever = PartsRetriever(Shelf(), Cut("by rules"))
    with tracing() as trace:
        nodes = await retriever.aretrieve("broken and a b")
    assert names(nodes) == ["a", "b"]
    assert [hit.node.metadata["found_by_parts"] for hit in nodes] == [[2], [2]]
    assert trace.degraded == ["by rules", "part 1 failed: ValueError: the shelf is broken"]
    with pytest.raises(ValueError, match="the shelf is broken"):
        await retriever.rank_documents("broken and broken")


async def test_over_an_index_whole_questions_have_the_same_result() -> None:
    index = await indexed()
    inner = KeywordRetriever(index)
    outer = PartsRetriever(inner, Cut())
    assert await outer.rank_documents("yellow fruit") == await inner.rank_documents("yellow fruit")
    assert await outer.aretrieve("yellow fruit") == await inner.aretrieve("yellow fruit")
    ranked = await outer.rank_documents("yellow fruit and orange root")
    assert [document_id for document_id, _ in ranked[:2]] == ["banana", "carrot"]
    index.close()


def test_the_synchronous_way_in() -> None:
    assert names(PartsRetriever(Shelf(), Cut()).retrieve("a and b")) == ["a", "b"]
