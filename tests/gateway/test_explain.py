"""Errors in our words: what went wrong, where, what to do; no key and no word of the reply."""

from __future__ import annotations

import httpx
import openai
import pytest
from pydantic import SecretStr

from provider import KEY
from rag_lab.errors import ModelConfigError, ModelError, ProviderError
from rag_lab.gateway.breaker import ProviderFailingError
from rag_lab.gateway.budget import BudgetError
from rag_lab.gateway.call import Endpoint
from rag_lab.gateway.explain import explained, host_of
from rag_lab.gateway.reply import (
    ReplyCountError,
    ReplyDimensionError,
    UnreadableReplyError,
    UnsendableTextError,
)

ENDPOINT = Endpoint("words", "http://models.example:8080/v1", SecretStr(KEY))
REQUEST = httpx.Request("POST", ENDPOINT.base_url)
SECRET = f"you sent {KEY} and a private text"


def refused(status: int, code: str = "x", message: str = SECRET) -> openai.APIStatusError:
    response = httpx.Response(status, request=REQUEST, headers={"x-echo": KEY})
    return openai.APIStatusError(message, response=response, body={"code": code, "message": SECRET})


LASTING = [
    (refused(401), "refused the key (HTTP 401). Check RAG_LAB_EMBED_API_KEY"),
    (refused(429, "insufficient_quota"), "the account's credit"),
    (refused(404), "Check RAG_LAB_EMBED_MODEL and RAG_LAB_EMBED_BASE_URL"),
    (refused(413), "takes no text of this length (HTTP 413). Make it shorter."),
    (refused(400, "context_length_exceeded"), "takes no text of this length (HTTP 400)"),
    (refused(400), "refused the request (HTTP 400): text or settings are not taken"),
    (refused(422), "refused the request (HTTP 422)"),
    (ReplyDimensionError("expected 3 dimensions, got 4."), "Set RAG_LAB_EMBED_DIMENSIONS"),
    (ReplyCountError("sent 2 texts, got 1 vectors."), "another number of vectors than texts"),
]
PASSING = [
    (refused(429), "is at its rate limit (HTTP 429). Run again later: what is done is kept."),
    (refused(500), "answered with an error (HTTP 500). Run again later"),
    (refused(503), "answered with an error (HTTP 503)"),
    (refused(504), "did not answer in time (HTTP 504). Raise RAG_LAB_EMBED_TIMEOUT_S"),
    (openai.APITimeoutError(REQUEST), "did not answer in time. Raise RAG_LAB_EMBED_TIMEOUT_S"),
    (openai.APIConnectionError(request=REQUEST), "cannot be reached. Is the server up and"),
    (UnreadableReplyError("the reply of 3 bytes is no JSON."), "error: the reply of 3 bytes"),
]


@pytest.mark.parametrize(("error", "words"), [*LASTING, *PASSING])
def test_what_is_said(error: Exception, words: str) -> None:
    known = explained(error, "embedding", ENDPOINT)
    assert str(known).startswith("embedding model 'words' at models.example:8080")
    assert words in str(known)
    assert KEY not in f"{known!r} {known}"
    assert "private" not in str(known)
    assert isinstance(known, ProviderError) == ((error, words) in PASSING)


def test_a_chat_model_names_its_own_settings() -> None:
    assert "RAG_LAB_LLM_API_KEY" in str(explained(refused(403), "chat", ENDPOINT))
    assert "no prompt of this length" in str(explained(refused(413), "chat", ENDPOINT))


@pytest.mark.parametrize(
    "ours", [ProviderFailingError("down"), BudgetError("too much"), UnsendableTextError([2])]
)
def test_our_own_errors_are_clear_already(ours: ModelError) -> None:
    assert explained(ours, "chat", ENDPOINT) is ours


def test_a_bug_is_not_dressed_up_as_a_providers_error() -> None:
    with pytest.raises(ZeroDivisionError):
        explained(ZeroDivisionError("ours"), "chat", ENDPOINT)


def test_the_host_of_an_address() -> None:
    assert host_of("http://localhost:11434/v1") == "localhost:11434"
    assert host_of("") == "api.openai.com"


def test_an_address_holds_no_login() -> None:
    with pytest.raises(ModelConfigError, match="address for 'words' holds a login") as raised:
        Endpoint("words", "http://me:hidden-word@models.example/v1")
    assert "hidden-word" not in str(raised.value)
