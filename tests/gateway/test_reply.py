"""Replies from bytes to checked values; each way in which one can be wrong is named."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.gateway.reply import (
    ReplyCountError,
    ReplyDimensionError,
    ReplyOrderError,
    ReplyValueError,
    UnreadableReplyError,
    UnsendableTextError,
    decode_chat,
    decode_embeddings,
    encode,
)

ROWS = np.array([[3, 4], [0, 2], [-5, 0]], np.float32)
UNIT = np.array([[0.6, 0.8], [0, 1], [-1, 0]], np.float32)


def as_base64(row: Any) -> str:
    return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode()


def as_list(row: Any) -> list[float]:
    return [float(value) for value in row]


def body(rows: Any, *, order: Any = None, form: Any = as_base64, **more: Any) -> bytes:
    places = range(len(rows)) if order is None else order
    data = [
        {"object": "embedding", "index": place, "embedding": form(row)}
        for place, row in zip(places, rows, strict=True)
    ]
    return json.dumps({"object": "list", "model": "m", "data": data, **more}).encode()


@pytest.mark.parametrize("form", [as_base64, as_list])
def test_unit_rows_and_what_they_were(form: Any) -> None:
    sent = body(ROWS, form=form, usage={"prompt_tokens": 5, "total_tokens": 6})
    reply = decode_embeddings(sent, 3, 2, {"x": "y"})
    np.testing.assert_allclose(reply.matrix, UNIT)
    assert reply.matrix.dtype == reply.norms.dtype == np.float32
    assert reply.norms.tolist() == [5, 2, 5]
    assert (reply.tokens, reply.model, reply.headers) == (6, "m", {"x": "y"})
    assert reply.body_bytes == len(sent)
    assert reply.matrix.flags.writeable


@pytest.mark.parametrize("form", [as_base64, as_list])
@given(st.permutations(range(7)))
def test_rows_go_where_their_index_says(form: Any, order: list[int]) -> None:
    rows = np.eye(7, dtype=np.float32)
    reply = decode_embeddings(body(rows[order], order=order, form=form), 7)
    np.testing.assert_array_equal(reply.matrix, rows)


def test_large_numbers_are_no_infinity() -> None:
    reply = decode_embeddings(body(np.array([[3e30, 4e30]], np.float32)), 1)
    np.testing.assert_allclose(reply.matrix, [[0.6, 0.8]])
    assert reply.tokens is None


@pytest.mark.parametrize("order", [[0, 0, 1], [0, 1, 3], [-1, 0, 1], [0, 1, None], [0, 1, "2"]])
def test_an_index_twice_or_out_of_range(order: list[Any]) -> None:
    with pytest.raises(ReplyOrderError, match="must be 0 to 2, each once"):
        decode_embeddings(body(ROWS, order=order), 3)


def test_true_is_no_index() -> None:
    with pytest.raises(ReplyOrderError):
        decode_embeddings(body(ROWS, order=[0, True, 2]), 3)


@pytest.mark.parametrize("name", ["index", "embedding"])
def test_an_item_lacks_something(name: str) -> None:
    reply = json.loads(body(ROWS))
    del reply["data"][1][name]
    with pytest.raises(ReplyOrderError, match="lacks 'index' or 'embedding'"):
        decode_embeddings(json.dumps(reply).encode(), 3)


@pytest.mark.parametrize("count", [2, 4])
def test_more_or_fewer_than_sent(count: int) -> None:
    with pytest.raises(ReplyCountError, match=f"sent {count} texts, got 3 vectors"):
        decode_embeddings(body(ROWS), count)


@pytest.mark.parametrize("form", [as_base64, as_list])
def test_another_dimension(form: Any) -> None:
    with pytest.raises(ReplyDimensionError, match="expected 3 dimensions, got 2"):
        decode_embeddings(body(ROWS, form=form), 3, 3)


@pytest.mark.parametrize("form", [as_base64, as_list])
@pytest.mark.parametrize("rows", [[[1, 2], [1]], [[], []]])
def test_several_dimensions_or_none(form: Any, rows: Any) -> None:
    with pytest.raises(ReplyDimensionError, match="of one length"):
        decode_embeddings(body(rows, form=form), 2)


@pytest.mark.parametrize("vector", [None, 1, ["a"], {"x": 1}, [[1.0]]])
def test_what_is_no_vector(vector: Any) -> None:
    with pytest.raises(ReplyDimensionError):
        decode_embeddings(body([vector, vector], form=lambda given: given), 2)


@pytest.mark.parametrize("vector", ["AAAA?AAAA", "AAA", "äää", "AAAAAAA=\n"])
def test_what_is_no_base64(vector: str) -> None:
    with pytest.raises(UnreadableReplyError, match="no valid base64"):
        decode_embeddings(body([vector], form=str), 1)


def test_half_a_number() -> None:
    with pytest.raises(ReplyDimensionError, match="theirs are of 6 bytes"):
        decode_embeddings(body(["AAAAAAAA"], form=str), 1)


@pytest.mark.parametrize(
    ("bad", "what"),
    [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (0, "a zero vector")],
)
def test_bad_values_name_their_texts_and_leave_the_others(bad: float, what: str) -> None:
    rows = ROWS.copy()
    rows[1] = bad
    with pytest.raises(ReplyValueError, match=f"{what} for text 1 of 3") as caught:
        decode_embeddings(body(rows), 3)
    assert caught.value.places == (1,)
    np.testing.assert_allclose(caught.value.reply.matrix[[0, 2]], UNIT[[0, 2]])


@pytest.mark.parametrize(
    "sent", [b"", b"{", body(ROWS)[:-20], b"<html>", b"[]", b"null", b'{"error": "sk-1"}', b"\xff"]
)
def test_what_cannot_be_read(sent: bytes) -> None:
    with pytest.raises(UnreadableReplyError) as caught:
        decode_embeddings(sent, 3)
    assert "sk-1" not in str(caught.value)
    with pytest.raises(UnreadableReplyError):
        decode_chat(sent)


def test_a_chat_reply() -> None:
    choice = {"message": {"content": "Yes."}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    sent = json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()
    reply = decode_chat(sent, {"x": "y"})
    assert (reply.content, reply.finish_reason, reply.model) == ("Yes.", "stop", "m")
    assert (reply.prompt_tokens, reply.completion_tokens) == (3, 1)
    assert decode_chat(b'{"choices": [{"message": {"content": ""}}]}').prompt_tokens is None


@pytest.mark.parametrize("choices", [None, [], [1], [{}], [{"message": None}]])
def test_a_chat_reply_without_message(choices: Any) -> None:
    with pytest.raises(UnreadableReplyError, match="has no message"):
        decode_chat(json.dumps({"choices": choices}).encode())


def test_a_chat_reply_without_text() -> None:
    choice = {"message": {"content": None}, "finish_reason": "tool_calls"}
    with pytest.raises(UnreadableReplyError, match=r"finish reason: 'tool_calls'"):
        decode_chat(json.dumps({"choices": [choice]}).encode())


def test_half_a_character_is_found_before_anything_is_sent() -> None:
    texts = ["a", "b\ud800", "c", "\udfff"]
    with pytest.raises(UnsendableTextError, match="text 1 and 1 more holds half a") as caught:
        encode({"input": texts}, texts)
    assert caught.value.places == (1, 3)
    with pytest.raises(TypeError):
        encode({"input": object()}, ["a"])
