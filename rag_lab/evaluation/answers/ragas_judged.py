"""RAGAS' measures that ask a judge: any chat model behind the gateway.

RAGAS itself is imported by `ragas_adapter` alone, in a thread, when the first answer is scored.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rag_lab.errors import ModelError, SettingsError
from rag_lab.evaluation.answers.base import (
    AnswerMeasure,
    For,
    everything,
    value_of,
    with_reference,
)
from rag_lab.evaluation.scores import Sample, Score
from rag_lab.gateway.loops import PerLoop
from rag_lab.models import Embedder
from rag_lab.records import Answer, Question

if TYPE_CHECKING:
    from rag_lab.evaluation.answers.ragas_adapter import Prompts
    from rag_lab.gateway.llama import GatewayLLM

LANGUAGES = {"en": "english", "id": "indonesian", "ja": "japanese"}
"""What RAGAS is told to translate its prompts to; corpora in another language get English ones."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What RAGAS takes for a measure.

    Attributes:
        fields: of a sample, by RAGAS' names.
        embedder: whether it asks for vectors.
        is_for: which questions.
    """

    fields: tuple[str, ...]
    embedder: bool = False
    is_for: For = with_reference


def _answerable(question: Question) -> str:
    return "" if question.answerable else "the corpus cannot answer the question"


NEEDS = {
    "faithfulness": Needs(("user_input", "response", "retrieved_contexts"), is_for=everything),
    "answer_relevancy": Needs(("user_input", "response"), embedder=True, is_for=_answerable),
    "context_precision": Needs(("user_input", "reference", "retrieved_contexts")),
    "context_recall": Needs(("user_input", "reference", "retrieved_contexts")),
    "factual_correctness": Needs(("response", "reference")),
    "noise_sensitivity": Needs(("user_input", "response", "reference", "retrieved_contexts")),
    "answer_correctness": Needs(("user_input", "response", "reference"), embedder=True),
}


class Judged:
    """One of RAGAS' measures with a judge.

    Every call goes through the judge's gateway: its limits, retries, usage and cost. A judge whose
    `repeat` is set is asked for nothing twice, also by another process.

    Args:
        name: RAGAS' own.
        judge: asked for JSON in plain messages, so any model will do.
        embedder: for those measures that compare texts.
        language: of the corpus; the prompts are translated to it by the judge, once.

    Attributes:
        identity: RAGAS' version, judge, embedder and language: what decides a score besides the
            sample.
        prompt_language: what the judge was asked in; English where the judge's translation could
            not be used, or before the first score.
        prompt_note: why it is not the language of the corpus; "" if it is.
    """

    def __init__(
        self, name: str, judge: GatewayLLM, *, embedder: Embedder | None, language: str
    ) -> None:
        needs = NEEDS[name]
        if needs.embedder and embedder is None:
            raise SettingsError(f"measure {name!r} compares vectors: give an embedder.")
        self.name = name
        self.prompt_language = "en"
        self.prompt_note = ""
        self._needs, self._judge, self._embedder = needs, judge, embedder
        self._language = language
        self._prompts: Prompts | None = None
        self._turns: PerLoop[asyncio.Lock] = PerLoop(asyncio.Lock)
        compared = embedder.identity if needs.embedder and embedder else ""
        told = f"{judge!r} at {judge.temperature} {compared} {language}"
        self.identity = f"ragas {version('ragas')} {told}"
        self._measure = AnswerMeasure(name, self._ask, needs.is_for)

    def applies_to(self, question: Question) -> bool:
        """Whether the measure is for this question; a table leaves out the others."""
        return self._measure.applies_to(question)

    async def score(self, sample: Sample) -> Score:
        """The score, or the reason why there is none; no reason holds what the judge wrote."""
        return await self._measure.score(sample)

    async def _ask(self, sample: Sample, answer: Answer) -> Score:
        if lacking := self._lacking(answer):
            return Score.none(lacking)
        try:
            # Four seconds: no event loop waits for that.
            adapter = await asyncio.to_thread(_adapter)
        except ImportError as error:
            raise ModelError(
                f"ragas cannot be imported ({error.name or 'a part of it is missing'}): "
                "run `rag-lab doctor`."
            ) from None
        prompts = await self._in_language(adapter)
        fields = _fields(sample, answer)
        wanted = {name: fields[name] for name in self._needs.fields}
        return value_of(
            await adapter.score(self.name, self._judge, self._embedder, prompts, wanted)
        )

    def _lacking(self, answer: Answer) -> str:
        """What RAGAS would raise for."""
        if "response" in self._needs.fields and not answer.text.strip():
            return "the answer is empty"
        if "retrieved_contexts" in self._needs.fields and not answer.passages:
            return "nothing was retrieved"
        if self.name == "faithfulness" and answer.refused:
            return "a refusal claims nothing"
        return ""

    async def _in_language(self, adapter: Any) -> Prompts:
        """The measure's prompts, translated by whoever comes first.

        Raises:
            ModelError: the judge cannot be asked now.
        """
        async with self._turns.get():
            if self._prompts is None:
                made = adapter.prompts_of(self.name, self._judge, self._embedder)
                if self._language != "en":
                    made = await self._translated(adapter, made)
                self._prompts = made
        return self._prompts

    async def _translated(self, adapter: Any, prompts: Prompts) -> Prompts:
        if self._language not in LANGUAGES:
            self.prompt_note = f"no name of the language {self._language!r} is known to RAGAS"
            return prompts
        try:
            name = LANGUAGES[self._language]
            made: Prompts = await adapter.translated(prompts, name, self._judge)
        except (adapter.JudgeReplyError, ValueError) as error:
            # A judge that cannot translate may well judge; all rows get the same prompts.
            self.prompt_note = f"the judge's translation is unusable ({type(error).__name__})"
            return prompts
        self.prompt_language = self._language
        return made


def _adapter() -> Any:
    from rag_lab.evaluation.answers import ragas_adapter

    return ragas_adapter


def _fields(sample: Sample, answer: Answer) -> dict[str, Any]:
    return {
        "user_input": sample.question.text,
        "response": answer.text,
        "reference": sample.question.answer,
        "retrieved_contexts": [passage.text for passage in answer.passages],
    }
