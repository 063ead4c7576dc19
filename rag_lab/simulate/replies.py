"""Requests read, and bodies as an OpenAI-compatible provider writes them, right or spoilt."""

from __future__ import annotations

import random
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from rag_lab.simulate.provider import Call, Plan, Refusal, tokens_of
from rag_lab.simulate.settings import MOST_DIMENSIONS

OWNER = "rag-lab simulation"
_ROLE_TOKENS = 4
_WORDS_A_CHUNK = 4
_MOST_OUTPUT_TOKENS = 4_096


class BadRequestError(Exception):
    """A body that no provider would take; holds the refusal."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(400, message, "invalid_value")


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A body of `/v1/embeddings`."""

    call: Call
    dimensions: int | None
    as_base64: bool

    @classmethod
    def read(cls, raw: bytes, most_dimensions: int | None = None) -> EmbeddingRequest:
        """Raises BadRequestError where OpenAI answers 400."""
        body = _object(raw)
        texts = _inputs(body.get("input"))
        encoding = body.get("encoding_format", "float")
        if encoding not in ("float", "base64"):
            raise BadRequestError(f"encoding_format must be float or base64, got {encoding!r}.")
        dimensions, most = body.get("dimensions"), most_dimensions or MOST_DIMENSIONS
        if dimensions is not None and not (type(dimensions) is int and 0 < dimensions <= most):
            raise BadRequestError(f"dimensions must be from 1 to {most}, got {dimensions!r}.")
        call = Call("embeddings", _model(body), texts, sum(map(tokens_of, texts)))
        return cls(call, dimensions, encoding == "base64")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A body of `/v1/chat/completions`."""

    call: Call
    prompt: str
    most_tokens: int
    stream: bool
    with_usage: bool

    @classmethod
    def read(cls, raw: bytes) -> ChatRequest:
        """Raises BadRequestError where OpenAI answers 400."""
        body = _object(raw)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise BadRequestError("messages must be a list with at least one message.")
        texts = tuple(map(_content, messages))
        most = body.get("max_completion_tokens") or body.get("max_tokens") or _MOST_OUTPUT_TOKENS
        if type(most) is not int or most < 1:
            raise BadRequestError(f"max_tokens must be 1 or more, got {most!r}.")
        options = body.get("stream_options") or {}
        tokens = sum(tokens_of(text) + _ROLE_TOKENS for text in texts)
        return cls(
            call=Call("chat", _model(body), texts, tokens),
            prompt="\n".join(texts),
            most_tokens=most,
            stream=bool(body.get("stream")),
            with_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        )


def embeddings_body(request: EmbeddingRequest, rows: Sequence[np.ndarray], plan: Plan) -> bytes:
    """The reply to an embedding call, with whatever spoils it."""
    call = request.call
    if plan.faults:
        rows = _spoilt(rows, call.texts, plan)
    items = [
        {
            "object": "embedding",
            "index": place,
            "embedding": b64encode(row.data).decode() if request.as_base64 else row,
        }
        for place, row in enumerate(rows)
    ]
    if plan.faults:
        items = _rearranged(items, plan)
    usage = {"prompt_tokens": call.tokens, "total_tokens": call.tokens}
    body = {"object": "list", "data": items, "model": call.model, "usage": usage}
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def cut_answer(text: str, most_tokens: int) -> tuple[str, str]:
    """An answer within its tokens, and why it ended: "stop" or "length"."""
    if tokens_of(text) <= most_tokens:
        return text, "stop"
    return text[: 4 * most_tokens].rstrip(), "length"


def chat_body(request: ChatRequest, answer: str, finish: str, call_id: str) -> bytes:
    """The reply to a chat call that is not streamed."""
    message = {"role": "assistant", "content": answer, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return orjson.dumps(
        _chat_frame(request, call_id, "chat.completion")
        | {"choices": [choice], "usage": _chat_usage(request, answer)}
    )


def chat_events(
    request: ChatRequest, answer: str, finish: str, call_id: str, *, invalid: bool = False
) -> Iterator[bytes]:
    """The server-sent events of a streamed chat call; the first holds the role."""
    frame = _chat_frame(request, call_id, "chat.completion.chunk")
    if request.with_usage:
        frame["usage"] = None

    def event(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event(frame | {"choices": [choice]})

    yield event({"role": "assistant", "content": ""})
    words = answer.split(" ")
    for start in range(0, len(words), _WORDS_A_CHUNK):
        piece = " ".join(words[start : start + _WORDS_A_CHUNK])
        if invalid:
            yield b'data: {"choices": [\n\n'
        yield event({"content": piece if start == 0 else f" {piece}"})
    yield event({}, finish)
    if request.with_usage:
        yield _event(frame | {"choices": [], "usage": _chat_usage(request, answer)})
    yield b"data: [DONE]\n\n"


def models_body(models: Sequence[str]) -> bytes:
    """The reply of `/v1/models`."""
    return orjson.dumps({"object": "list", "data": [model_object(name) for name in models]})


def model_object(name: str) -> dict[str, Any]:
    """One model as `/v1/models` lists it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}


def error_body(refusal: Refusal) -> bytes:
    """The body of an HTTP error."""
    error = {
        "message": refusal.message,
        "type": refusal.type,
        "param": None,
        "code": refusal.code or None,
    }
    return orjson.dumps({"error": error})


def _spoilt(rows: Sequence[np.ndarray], texts: Sequence[str], plan: Plan) -> list[np.ndarray]:
    spoilt = list(rows)
    for fault in plan.faults:
        if fault.kind not in ("nan", "zero", "dimensions"):
            continue
        drawn = int.from_bytes(plan.key, "little") % len(spoilt)
        marked = [place for place, text in enumerate(texts) if fault.marker in text]
        for place in marked if fault.marker else [drawn]:
            row = spoilt[place]
            if fault.kind == "dimensions":
                spoilt[place] = np.resize(row, max(1, len(row) + fault.amount))
            else:
                spoilt[place] = np.full_like(row, np.nan if fault.kind == "nan" else 0)
    return spoilt


def _rearranged(items: list[dict[str, Any]], plan: Plan) -> list[dict[str, Any]]:
    for fault in plan.faults:
        if fault.kind == "count" and fault.amount < 0:
            items = items[: fault.amount]
        elif fault.kind == "count":
            items = items + [{**items[-1], "index": len(items) + n} for n in range(fault.amount)]
        elif fault.kind == "order" and len(items) > 1:
            before = list(items)
            random.Random(plan.key).shuffle(items)
            if items == before:
                items.reverse()
    return items


def _chat_frame(request: ChatRequest, call_id: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{call_id}",
        "object": kind,
        "created": int(time.time()),
        "model": request.call.model,
        "system_fingerprint": "simulated",
    }


def _chat_usage(request: ChatRequest, answer: str) -> dict[str, int]:
    asked, written = request.call.tokens, tokens_of(answer)
    return {
        "prompt_tokens": asked,
        "completion_tokens": written,
        "total_tokens": asked + written,
    }


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"The body is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise BadRequestError(f"The body must be a JSON object, got {type(body).__name__}.")
    return body


def _model(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequestError("You must provide a model parameter.")
    return model


def _inputs(given: Any) -> tuple[str, ...]:
    """The texts of an input: a text, texts, token ids, or lists of token ids."""
    if isinstance(given, str) or _is_token_ids(given):
        given = [given]
    if not isinstance(given, list) or not given:
        raise BadRequestError("input must be a text or a list with at least one text.")
    texts = []
    for place, item in enumerate(given):
        if _is_token_ids(item):
            item = " ".join(map(str, item))
        if not isinstance(item, str) or not item:
            raise BadRequestError(f"input[{place}] must be a text that is not empty.")
        texts.append(item)
    return tuple(texts)


def _is_token_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _content(message: Any) -> str:
    """The text of a message; of one in parts, that of its text parts."""
    if not isinstance(message, dict) or "role" not in message:
        raise BadRequestError("each message must be an object with a role and a content.")
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if content is not None and not isinstance(content, str):
        raise BadRequestError("content must be a text or a list of parts.")
    return content or ""
