"""A provider's reply, from bytes to checked values. Pure: no I/O, no event loop.

    ModelError
    ├── UnsendableTextError         a text that no JSON can carry
    └── ReplyError                  an answer came, and cannot be used
        ├── UnreadableReplyError    no JSON, cut off, or without what was asked for
        ├── ReplyCountError         more or fewer vectors than texts
        ├── ReplyOrderError         an `index` is missing, twice or out of range
        ├── ReplyDimensionError     vectors of another length than expected, or of several
        └── ReplyValueError         NaN, infinity or zero vectors; the other rows are usable

No message holds text of the reply: providers repeat what they were sent, keys among it.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from rag_lab.errors import ModelError

_TINY = 1e-9
_FLOAT_BYTES = 4


class UnsendableTextError(ModelError):
    """Texts with half a character (a lone surrogate), which no JSON can carry."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__(
            f"{_some(places, 'text')} holds half a character (a lone surrogate). "
            "Mend the record, or clean it with text.encode('utf-8', 'replace').decode()."
        )
        self.places = tuple(places)


class ReplyError(ModelError):
    """The provider answered with something that cannot be used."""


class UnreadableReplyError(ReplyError):
    """The reply is no JSON, was cut off, or lacks what was asked for."""


class ReplyCountError(ReplyError):
    """The reply holds more or fewer vectors than texts were sent."""


class ReplyOrderError(ReplyError):
    """The reply does not say which vector belongs to which text."""


class ReplyDimensionError(ReplyError):
    """The vectors have another length than expected, or several."""


class ReplyValueError(ReplyError):
    """Some vectors are not finite or zero.

    Attributes:
        what: came instead of a vector.
        places: the texts they belong to.
        reply: the whole reply. Its other rows are good: only these need to be asked again.
    """

    def __init__(self, what: str, places: Sequence[int], reply: EmbeddingReply) -> None:
        super().__init__(
            f"the provider sent {what} for {_some(places, 'text')} of {len(reply.matrix)}. "
            "Some local servers do so for long texts in half precision."
        )
        self.what = what
        self.places = tuple(places)
        self.reply = reply


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingReply:
    """The vectors of one call.

    Attributes:
        matrix: float32 of shape (texts, dimensions), unit rows in the order of the texts.
        norms: length of each row as it came, float32.
        tokens: what the provider counted, None if it did not say.
        model: what the provider calls the model that answered.
        headers: of the response; look-ups ignore case.
        body_bytes: size of the response.
        decode_s: time from bytes to matrix.
    """

    matrix: np.ndarray
    norms: np.ndarray
    tokens: int | None = None
    model: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body_bytes: int = 0
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The answer of one chat call; token counts are None where the provider did not say."""

    content: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    decode_s: float = 0.0


def encode(body: Mapping[str, Any], texts: Sequence[str]) -> bytes:
    """The request as JSON.

    Raises:
        UnsendableTextError: some of its texts are no valid Unicode.
    """
    try:
        return orjson.dumps(body)
    except TypeError:
        places = [place for place, text in enumerate(texts) if not _is_unicode(text)]
        if not places:
            raise
        raise UnsendableTextError(places) from None


def decode_embeddings(
    body: bytes, count: int, dimensions: int | None = None, headers: Mapping[str, str] | None = None
) -> EmbeddingReply:
    """The vectors of a reply, each at the place of its text.

    Args:
        body: the response as it came; vectors as base64 or as lists of numbers.
        count: texts that were sent.
        dimensions: length of a vector, if it is known.
        headers: kept in the reply.

    Raises:
        ReplyError: one of the tree above; the first thing that is wrong.
    """
    reply = _object(body)
    data = reply.get("data")
    if not isinstance(data, list):
        raise UnreadableReplyError(f"the reply of {len(body)} bytes has no list 'data'.")
    if len(data) != count:
        raise ReplyCountError(f"sent {count} texts, got {len(data)} vectors.")
    try:
        order = [item["index"] for item in data]
        vectors = [item["embedding"] for item in data]
    except (KeyError, TypeError):
        raise ReplyOrderError(
            "an item of the reply lacks 'index' or 'embedding', so nothing says which text its "
            "vector belongs to."
        ) from None
    raw = _in_order(_matrix(vectors), order)
    if dimensions is not None and raw.shape[1] != dimensions:
        raise ReplyDimensionError(
            f"expected {dimensions} dimensions, got {raw.shape[1]}: it is another model, or the "
            "model takes no 'dimensions'."
        )
    return _checked(raw, _count(reply, "total_tokens", "prompt_tokens"), reply, body, headers)


def decode_chat(body: bytes, headers: Mapping[str, str] | None = None) -> ChatReply:
    """The answer in a reply.

    Raises:
        UnreadableReplyError: there is no text in it.
    """
    reply = _object(body)
    try:
        choice = reply["choices"][0]
        content, reason = choice["message"].get("content"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise UnreadableReplyError(f"the reply of {len(body)} bytes has no message.") from None
    if not isinstance(content, str):
        raise UnreadableReplyError(f"the model answered without text (finish reason: {reason!r}).")
    return ChatReply(
        content,
        reason,
        _count(reply, "prompt_tokens"),
        _count(reply, "completion_tokens"),
        str(reply.get("model") or ""),
        headers or {},
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UnreadableReplyError(
            f"the reply of {len(body)} bytes is no JSON: it was cut off, or something else than "
            "the model's server answered."
        ) from None
    if not isinstance(reply, dict):
        raise UnreadableReplyError(f"the reply is a JSON {type(reply).__name__}, not an object.")
    return reply


def _matrix(vectors: list[Any]) -> np.ndarray:
    """Rows as they came, float32."""
    if not vectors:
        raise ReplyCountError("no text was sent, so there is no vector.")
    if all(type(vector) is str for vector in vectors):
        return _from_base64(vectors)
    try:
        matrix = np.array(vectors, np.float32)
    except (ValueError, TypeError):
        raise _differing(vectors) from None
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise _differing(vectors)
    return matrix


def _from_base64(vectors: list[str]) -> np.ndarray:
    try:
        # Strict: a stray character would otherwise be dropped, and every number after it be wrong.
        rows = [a2b_base64(vector, strict_mode=True) for vector in vectors]
    except (Base64Error, ValueError):
        raise UnreadableReplyError("a vector is no valid base64.") from None
    size = len(rows[0])
    if not size or size % _FLOAT_BYTES or any(len(row) != size for row in rows):
        raise _differing(rows)
    return np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), size // _FLOAT_BYTES)


def _differing(vectors: Sequence[Any]) -> ReplyDimensionError:
    sizes = sorted({len(vector) if hasattr(vector, "__len__") else 0 for vector in vectors})
    return ReplyDimensionError(
        "the vectors of one reply must be numbers, of one length; theirs are of "
        f"{', '.join(map(str, sizes[:4]))} {'bytes' if isinstance(vectors[0], bytes) else 'items'}."
    )


def _in_order(rows: np.ndarray, order: list[Any]) -> np.ndarray:
    """Each row at the place its index names."""
    places = list(range(len(rows)))
    # `True == 1`: only whole numbers are places.
    if not all(type(index) is int for index in order) or sorted(order) != places:
        raise ReplyOrderError(
            f"the 'index' of the vectors must be 0 to {len(rows) - 1}, each once; "
            f"{len(set(map(str, order)))} different ones came."
        )
    if order == places:
        return rows
    placed = np.empty_like(rows)
    placed[order] = rows
    return placed


def _checked(
    raw: np.ndarray,
    tokens: int | None,
    reply: dict[str, Any],
    body: bytes,
    headers: Mapping[str, str] | None,
) -> EmbeddingReply:
    norms = np.sqrt(np.einsum("ij,ij->i", raw, raw))
    if not np.isfinite(norms).all():  # perhaps only the squares are too large for float32
        norms = np.linalg.norm(raw.astype(np.float64), axis=1)
    good = np.isfinite(norms) & (norms > _TINY)
    with np.errstate(all="ignore"):  # bad rows stay visibly bad
        matrix = (raw / norms[:, None]).astype(np.float32, copy=False)
    result = EmbeddingReply(
        matrix,
        norms.astype(np.float32, copy=False),
        tokens,
        str(reply.get("model") or ""),
        headers or {},
        len(body),
    )
    if not good.all():
        places = [int(place) for place in np.flatnonzero(~good)]
        zero = np.isfinite(norms[places[0]])
        raise ReplyValueError("a zero vector" if zero else "NaN or infinity", places, result)
    return result


def _count(reply: dict[str, Any], *names: str) -> int | None:
    usage = reply.get("usage")
    if not isinstance(usage, dict):
        return None
    return next((usage[name] for name in names if type(usage.get(name)) is int), None)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _some(places: Sequence[int], what: str) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{what} {places[0]}{more}"
