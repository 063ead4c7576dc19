"""RAGAS, imported here and nowhere else; its tracking is off before it is."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel, ValidationError

from rag_lab.errors import ModelError
from rag_lab.gateway.llama import GatewayLLM
from rag_lab.models import Embedder

os.environ["RAGAS_DO_NOT_TRACK"] = "true"  # it posts to a remote service, from async code

from ragas.embeddings.base import BaseRagasEmbedding
from ragas.llms.base import InstructorBaseRagasLLM
from ragas.metrics import collections
from ragas.prompt.metrics.base_prompt import BasePrompt

M = TypeVar("M", bound=BaseModel)
Prompts = Mapping[str, Any]
"""RAGAS' prompts by the attribute of the metric that holds them."""

MOST_TOKENS = 2_048
"""A judge may write this much at least: a verdict on every statement of an answer is long."""
RE_ASKS = 2
"""How often a judge is asked again for JSON that can be used."""
_ECHOED_CHARS = 4_000
"""Of a reply that could not be used, sent back with what is wrong with it."""
_APART = 1_000_000
"""Between the numbers under which repeats of one prompt are kept."""

_METRICS = {
    "faithfulness": collections.Faithfulness,
    "answer_relevancy": collections.AnswerRelevancy,
    "context_precision": collections.ContextPrecision,
    "context_recall": collections.ContextRecall,
    "factual_correctness": collections.FactualCorrectness,
    "noise_sensitivity": collections.NoiseSensitivity,
    "answer_correctness": collections.AnswerCorrectness,
}
_COMPARES = ("answer_relevancy", "answer_correctness")

_THOUGHT = re.compile(r"^.*</think>", re.DOTALL)
_INPUT = "Now perform the same with the following input\ninput: "
_AGAIN = "That cannot be used: {reason}. Answer again, with the JSON object alone."
_DECODER = json.JSONDecoder(strict=False)  # models write line ends into strings


class JudgeReplyError(ModelError):
    """The judge answered with something that cannot be used; holds nothing of what it wrote."""


async def score(
    name: str,
    judge: GatewayLLM,
    embedder: Embedder | None,
    prompts: Prompts,
    fields: Mapping[str, Any],
) -> float:
    """What RAGAS computes; NaN where it finds nothing to judge.

    Raises:
        ModelError: the judge or the embedder failed; `JudgeReplyError`: it was not understood.
    """
    metric = _metric(name, judge, embedder)
    for attribute, prompt in prompts.items():
        setattr(metric, attribute, prompt)
    return float((await metric.ascore(**fields)).value)


def prompts_of(name: str, judge: GatewayLLM, embedder: Embedder | None) -> Prompts:
    """RAGAS' own prompts for a measure, in English."""
    held = vars(_metric(name, judge, embedder)).items()
    return {attribute: value for attribute, value in held if isinstance(value, BasePrompt)}


async def translated(prompts: Prompts, language: str, judge: GatewayLLM) -> Prompts:
    """The prompts in another language, examples included.

    Translations are kept under the judge's number for repeats, or 0: each is asked for once.

    Raises:
        ModelError: as `score`. ValueError: the judge gave more or fewer sentences than it was sent.
    """
    asked = JudgeLLM(judge.model_copy(update={"repeat": judge.repeat or 0}))
    return {
        attribute: await prompt.adapt(language, asked, adapt_instruction=True)
        for attribute, prompt in prompts.items()
    }


def _metric(name: str, judge: GatewayLLM, embedder: Embedder | None) -> Any:
    compared = {"embeddings": LabEmbedding(embedder)} if name in _COMPARES and embedder else {}
    return _METRICS[name](llm=JudgeLLM(judge), **compared)


class JudgeLLM(InstructorBaseRagasLLM):  # type: ignore[misc] # RAGAS ships no types
    """A judge as RAGAS calls it, for the scoring of one answer.

    RAGAS takes what a judge leaves out for agreement: verdicts on fewer statements than it was
    sent, an empty list (a correctness of 1.0), a verdict of 2. Here these are replies to ask again
    for.
    """

    def __init__(self, judge: GatewayLLM) -> None:
        self._judge = judge
        self._asked: Counter[str] = Counter()

    def generate(self, prompt: str, response_model: type[M]) -> M:
        raise NotImplementedError("the judge is asked with agenerate, in the event loop.")

    async def agenerate(self, prompt: str, response_model: type[M]) -> M:
        """One judgement.

        Raises:
            JudgeReplyError: none of its replies could be used.
            ModelError: it refused, or its provider fails.
        """
        repeat = self._asked[prompt]
        self._asked[prompt] += 1
        messages = [ChatMessage(role="user", content=_with_schema(prompt, response_model))]
        while True:
            text = await self._reply(messages, repeat)
            try:
                return usable(text, response_model, prompt)
            except JudgeReplyError as error:
                if len(messages) > 2 * RE_ASKS:
                    raise JudgeReplyError(f"asked {RE_ASKS + 1} times, {error}") from None
                again = _AGAIN.format(reason=error)
                messages += [
                    ChatMessage(role="assistant", content=text[:_ECHOED_CHARS]),
                    ChatMessage(role="user", content=again),
                ]

    async def _reply(self, messages: list[ChatMessage], repeat: int) -> str:
        judge = self._judge
        if repeat and judge.repeat is not None:
            # RAGAS asks one prompt several times for different answers: one kept answer is none.
            judge = judge.model_copy(update={"repeat": judge.repeat + repeat * _APART})
        more = {"max_tokens": max(judge.max_tokens, MOST_TOKENS)} if judge.max_tokens else {}
        response = await judge.achat(messages, **more)
        if response.additional_kwargs.get("finish_reason") == "length":
            most = more.get("max_tokens")
            raise JudgeReplyError(
                f"the judge's answer was cut off at {most or 'its limit of'} tokens; give the "
                "judge a larger max_tokens"
            )
        return response.message.content or ""


class LabEmbedding(BaseRagasEmbedding):  # type: ignore[misc] # RAGAS ships no types
    """The lab's embedder as RAGAS calls it."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self._embedder = embedder

    def embed_text(self, text: str, **kwargs: Any) -> list[float]:
        raise NotImplementedError("the embedder is asked with aembed_text, in the event loop.")

    async def aembed_text(self, text: str, **kwargs: Any) -> list[float]:
        vector: list[float] = np.asarray(await self._embedder.embed_query(text)).tolist()
        return vector


def usable(text: str, response_model: type[M], prompt: str) -> M:
    """A judge's reply, checked.

    Raises:
        JudgeReplyError: what is wrong with it, in words that a judge can act on.
    """
    try:
        reply = response_model.model_validate(_object_in(text))
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['type']}" for one in wrong[:3])
        raise JudgeReplyError(f"the judge's JSON does not fit the schema ({told})") from None
    _check_lists(reply, prompt)
    _check_verdicts(reply.model_dump())
    return reply


def _with_schema(prompt: str, response_model: type[BaseModel]) -> str:
    """RAGAS leaves the schema out of what it has translated."""
    schema = json.dumps(response_model.model_json_schema())
    if schema in prompt:
        return prompt
    return f"{prompt}\n\nAnswer with a JSON object that complies with this schema:\n{schema}"


def _object_in(text: str) -> Any:
    """The JSON object in a reply, whatever stands around it: a fence, prose, thoughts."""
    text = _THOUGHT.sub("", text)
    start = text.find("{")
    if start < 0:
        raise JudgeReplyError("the judge's answer holds no JSON object")
    try:
        return _DECODER.raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        raise JudgeReplyError("the judge's answer is broken JSON") from None


def _check_lists(reply: BaseModel, prompt: str) -> None:
    lists = {name: value for name, value in reply if isinstance(value, list)}
    if lists and not any(lists.values()):
        raise JudgeReplyError(f"the judge left {' and '.join(lists)} empty")
    sent, got = _statements_in(prompt), lists.get("statements", ())
    if sent and len(got) != sent:
        raise JudgeReplyError(f"the judge gave {len(got)} verdicts on {sent} statements")


def _statements_in(prompt: str) -> int:
    """How many statements a prompt asks for a verdict on; 0 if it asks for something else."""
    _, found, given = prompt.rpartition(_INPUT)
    statements = _DECODER.raw_decode(given)[0].get("statements") if found else None
    return len(statements or ())


def _check_verdicts(value: Any) -> None:
    """Whole numbers in RAGAS' schemas are verdicts: 0 or 1."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _check_verdicts(each)
    elif isinstance(value, int) and value not in (0, 1):
        raise JudgeReplyError("a verdict of the judge is neither 0 nor 1")
