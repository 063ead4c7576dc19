"""A judge on loopback that answers RAGAS' prompts with valid JSON, or spoils it on order."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from provider import KEY, Provider, _json, _refusal
from rag_lab.gateway.call import CallSettings, Endpoint
from rag_lab.gateway.gateway import Gateway
from rag_lab.gateway.llama import GatewayLLM

_DECODER = json.JSONDecoder()
_SCHEMA = re.compile(r"(?:JSON Schema:|this schema:)\n(?=\{)")
SECRET = "words that only the judge wrote"
TOKENS = (22, 14)


@dataclass
class Judge(Provider):
    """A provider whose chat model judges.

    Attributes:
        verdict: it gives on everything.
        spoil: what becomes of its replies: a key of `SPOILT`, "" for nothing.
        spoilt: how many replies are spoilt; None: all.
        judged: replies it gave.
        wait_s: before each reply.
        most_at_once: the most requests that it held at a time.
    """

    verdict: int = 1
    spoil: str = ""
    spoilt: int | None = None
    judged: int = 0
    wait_s: float = 0.0
    most_at_once: int = 0
    _now: int = 0
    prompts: list[str] = field(default_factory=list)

    async def _chat(self, request: web.Request) -> web.Response:
        body, fault = await self._receive(request)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await asyncio.sleep(self.wait_s)
            if isinstance(fault, int):
                return _refusal(fault)
            if fault == "hang":
                await self._stop.wait()
            return self._judge(body)
        finally:
            self._now -= 1

    def _judge(self, body: dict[str, Any]) -> web.Response:
        prompt = body["messages"][0]["content"]
        self.prompts.append(prompt)
        self.judged += 1
        text, reason = json.dumps(judgement(prompt, self.verdict)), "stop"
        if self.spoil and (self.spoilt is None or self.judged <= self.spoilt):
            text = SPOILT[self.spoil](text)
            reason = "length" if self.spoil == "cut off" else "stop"
        message = {"role": "assistant", "content": text}
        asked, written = TOKENS
        return _json(
            {
                "model": body["model"],
                "choices": [{"index": 0, "finish_reason": reason, "message": message}],
                "usage": {"prompt_tokens": asked, "completion_tokens": written},
            }
        )

    def llm(self, gateway: Gateway, timeout_s: float = 10.0, **options: Any) -> GatewayLLM:
        """This judge behind a gateway."""
        endpoint = Endpoint("judge", self.base_url, SecretStr(KEY))
        model = gateway.chat_model(endpoint, CallSettings(timeout_s=timeout_s))
        return GatewayLLM(gateway, model, **options)


SPOILT: dict[str, Callable[[str], str]] = {
    "fenced": lambda text: f"Here it is:\n```json\n{text}\n```\nAnything else?",
    "thought": lambda text: f"<think>{{perhaps}}</think>\n{text}",
    "broken": lambda text: '{"statements": ["' + SECRET,
    "prose": lambda text: SECRET,
    "wrong fields": lambda text: json.dumps({SECRET: 1}),
    "empty lists": lambda text: json.dumps({name: [] for name in json.loads(text)}),
    "other verdict": lambda text: text.replace(": 1", ": 7"),
    "cut off": lambda text: text[: len(text) // 2] + SECRET,
    "deep": lambda text: '{"a":' * 100_000,
}


def judgement(prompt: str, verdict: int) -> dict[str, Any]:
    """A valid instance of the schema in a prompt; one verdict for each statement sent."""
    if "TRANSLATOR" in prompt:
        sent = _DECODER.raw_decode(prompt, prompt.index("Statements to translate:\n") + 25)[0]
        return {"statements": [f"[terjemahan] {each}" for each in sent]}
    match = _SCHEMA.search(prompt)
    assert match, prompt
    schema = _DECODER.raw_decode(prompt, match.end())[0]
    given = _DECODER.raw_decode(prompt, prompt.rindex("\ninput: ") + 8)[0]
    made = _instance(schema, schema, verdict)
    statements = given.get("statements")
    if statements:
        made["statements"] = [
            {"statement": each, "reason": "r", "verdict": verdict} for each in statements
        ]
    if "TP" in made and not verdict:
        made["TP"] = []
    return dict(made)


def _instance(schema: dict[str, Any], root: dict[str, Any], verdict: int) -> Any:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    if schema["type"] == "object":
        fields = schema["properties"].items()
        return {name: _instance(each, root, verdict) for name, each in fields}
    if schema["type"] == "array":
        return [_instance(schema["items"], root, verdict)]
    # What makes a question noncommittal is the opposite of a good verdict.
    flag = 1 - verdict if schema.get("title") == "Noncommittal" else verdict
    return {"integer": flag, "string": "the harbour lantern"}[schema["type"]]
