"""How a call ended, in one word; and the times and numbers that a provider's headers tell."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import openai

from rag_lab.gateway.reply import ReplyDimensionError, ReplyError

MAX_RETRY_AFTER_S = 60.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


class Outcome(StrEnum):
    """How a call ended. What may pass by itself is retried, the rest fails at once."""

    OK = "ok"
    THROTTLED = "throttled"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    SERVER_ERROR = "server_error"
    TOO_LARGE = "too_large"
    REJECTED_INPUT = "rejected_input"
    AUTH = "auth"
    """The key is wrong, may not do this, or has no credit left."""
    NOT_FOUND = "not_found"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """No error of a provider: most likely one of ours."""

    @property
    def may_pass(self) -> bool:
        """Whether the same call may succeed later."""
        return self in _MAY_PASS

    @property
    def provider_failed(self) -> bool:
        """Whether it counts for the breaker."""
        return self in _MAY_PASS and self is not Outcome.THROTTLED


_MAY_PASS = {Outcome.THROTTLED, Outcome.TIMEOUT, Outcome.CONNECTION, Outcome.SERVER_ERROR}
_BY_STATUS = {
    401: Outcome.AUTH,
    402: Outcome.AUTH,
    403: Outcome.AUTH,
    404: Outcome.NOT_FOUND,
    408: Outcome.TIMEOUT,
    409: Outcome.SERVER_ERROR,
    413: Outcome.TOO_LARGE,
    425: Outcome.SERVER_ERROR,
    429: Outcome.THROTTLED,
    504: Outcome.TIMEOUT,
}
_TOO_LARGE_CODES = {
    "context_length_exceeded",
    "string_above_max_length",
    "array_above_max_length",
    "max_tokens_per_request",
    "request_too_large",
    "too_many_inputs",
}
_TOO_LARGE_WORDS = (
    "maximum context length",
    "context length",
    "request too large",
    "too many tokens",
    "max tokens per request",
    "maximum batch size",
    "batch size exceeds",
    "array too long",
)
_NO_CREDIT_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}


def classify_status(status: int, code: str | None = None, message: str = "") -> Outcome:
    """The outcome of an HTTP reply from its status, the error's code and its message."""
    if 200 <= status < 300:
        return Outcome.OK
    if status == 429 and code in _NO_CREDIT_CODES:
        return Outcome.AUTH
    said = message.lower()
    # 429 too: "Request too large … Limit 30000, Requested 40000" would never pass.
    if status in (400, 413, 422) and code in _TOO_LARGE_CODES:
        return Outcome.TOO_LARGE
    if status in (400, 422) and any(words in said for words in _TOO_LARGE_WORDS):
        return Outcome.TOO_LARGE
    if status == 429 and "request too large" in said:
        return Outcome.TOO_LARGE
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Outcome.SERVER_ERROR if status >= 500 else Outcome.REJECTED_INPUT


def classify(error: BaseException | None) -> Outcome:
    """The outcome that an exception stands for; `None` is a success."""
    if error is None:
        return Outcome.OK
    if isinstance(error, asyncio.CancelledError):
        return Outcome.CANCELLED
    if isinstance(error, openai.APIStatusError):
        return classify_status(error.status_code, error.code, _message(error))
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return Outcome.TIMEOUT
    if isinstance(error, openai.APIConnectionError | ConnectionError):
        return Outcome.CONNECTION
    if isinstance(error, ReplyDimensionError):
        return Outcome.REJECTED_INPUT  # the model gives other vectors: asking again changes nothing
    if isinstance(error, openai.APIResponseValidationError | ReplyError):
        return Outcome.SERVER_ERROR
    return Outcome.UNKNOWN


def _message(error: openai.APIStatusError) -> str:
    body: Any = error.body
    said = body.get("message") if isinstance(body, dict) else None
    return said if isinstance(said, str) else error.message


def retry_after(error: BaseException, now: float, cap_s: float = MAX_RETRY_AFTER_S) -> float | None:
    """The seconds that an error's reply asks to wait, if it does; `now` in epoch seconds."""
    if not isinstance(error, openai.APIStatusError):
        return None
    return retry_after_of(error.response.headers, now, cap_s)


def retry_after_of(
    headers: Mapping[str, str], now: float, cap_s: float = MAX_RETRY_AFTER_S
) -> float | None:
    """The seconds in `retry-after-ms` or `Retry-After`; None without either."""
    said = {name.lower(): value for name, value in headers.items()}
    exact = parse_retry_after(said.get("retry-after-ms"), now, cap_s * 1000)
    return parse_retry_after(said.get("retry-after"), now, cap_s) if exact is None else exact / 1000


def parse_retry_after(
    value: str | None, now: float, cap_s: float = MAX_RETRY_AFTER_S
) -> float | None:
    """Seconds to wait: a number of seconds or an HTTP date, between 0 and `cap_s`.

    Args:
        value: the header; None, empty or unreadable gives None.
        now: epoch seconds, to which a date is compared.
        cap_s: an absurd value (an hour, a year) counts as this.
    """
    text = (value or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (aware - datetime.fromtimestamp(now, UTC)).total_seconds()
    return None if math.isnan(seconds) else min(max(seconds, 0.0), cap_s)


def parse_number(text: str | None) -> float | None:
    """A finite number that is not negative; None if it is none."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def parse_duration(text: str | None) -> float | None:
    """Seconds in "6m0s", "120ms", "1s" or "12.5"; None if it is no duration."""
    text = (text or "").strip().lower()
    if parse_number(text) is not None:
        return parse_number(text)
    if not text or _DURATION.sub("", text):
        return None
    return sum(float(value) * _SECONDS[unit] for value, unit in _DURATION.findall(text))
