"""A client's error as one of ours, with what to do; no key and no reply text in it."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

import openai

from rag_lab.errors import ModelError, ProviderError
from rag_lab.gateway.call import OPENAI, Endpoint
from rag_lab.gateway.outcomes import Outcome, classify
from rag_lab.gateway.reply import ReplyCountError, ReplyError, ReplyValueError

Purpose = Literal["embedding", "chat"]


def host_of(base_url: str) -> str:
    """Host and port of an address."""
    return urlsplit(base_url or OPENAI).netloc


def explained(error: Exception, purpose: Purpose, endpoint: Endpoint) -> ModelError:
    """What went wrong with a model, and what to do about it.

    Returns:
        A `ProviderError` for what may pass, our own errors as they are, else a `ModelError`.
    """
    if isinstance(error, ModelError) and not isinstance(error, ReplyError):
        return error
    stage = "RAG_LAB_EMBED" if purpose == "embedding" else "RAG_LAB_LLM"
    where = f"{purpose} model {endpoint.model!r} at {host_of(endpoint.base_url)}"
    if isinstance(error, ReplyValueError):
        return ModelError(
            f"{where} sent {error.what} each time it was asked. Some local servers do so for long "
            "texts in half precision."
        )
    if isinstance(error, ReplyCountError):
        return ModelError(f"{where} answers with another number of vectors than texts, each time.")
    outcome = classify(error)
    if outcome is Outcome.UNKNOWN:
        raise error  # one of ours: hiding it would hide a bug
    said = f" (HTTP {error.status_code})" if isinstance(error, openai.APIStatusError) else ""
    again = "Run again later: what is done is kept."
    match outcome:
        case Outcome.AUTH:
            text = f"refused the key{said}. Check {stage}_API_KEY and the account's credit; "
            return ModelError(f"{where} {text}'rag-lab doctor' shows what is set.")
        case Outcome.NOT_FOUND:
            return ModelError(
                f"{where} does not exist{said}. Check {stage}_MODEL and {stage}_BASE_URL "
                "(it usually ends in /v1)."
            )
        case Outcome.TOO_LARGE:
            what = "text" if purpose == "embedding" else "prompt"
            return ModelError(f"{where} takes no {what} of this length{said}. Make it shorter.")
        case Outcome.REJECTED_INPUT if isinstance(error, ReplyError):
            return ModelError(
                f"{where}: {error} Set {stage}_DIMENSIONS to what the model gives, or leave it out."
            )
        case Outcome.REJECTED_INPUT:
            return ModelError(f"{where} refused the request{said}: text or settings are not taken.")
        case Outcome.THROTTLED:
            return ProviderError(f"{where} is at its rate limit{said}. {again}")
        case Outcome.TIMEOUT:
            return ProviderError(
                f"{where} did not answer in time{said}. Raise {stage}_TIMEOUT_S or run again."
            )
        case Outcome.CONNECTION:
            return ProviderError(
                f"{where} cannot be reached. Is the server up and {stage}_BASE_URL right?"
            )
        case _:
            detail = f": {error}" if isinstance(error, ReplyError) else said
            return ProviderError(f"{where} answered with an error{detail}. {again}")
