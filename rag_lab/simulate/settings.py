"""What a simulated provider is told: latency, limits, faults. Plain data, checked, JSON both ways.

All times are *modelled* seconds: `time_scale` 0.1 lets them pass ten times faster. Windows count
from the first call after the start or a reset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from rag_lab.errors import SettingsError

Endpoint = Literal["embeddings", "chat"]
FaultKind = Literal[
    "status",  # an HTTP error: `status`, after `seconds`
    "reset",  # the connection is reset after `seconds`
    "stall",  # hangs for `seconds` on top of the latency, then answers
    "slow",  # takes `seconds`, whatever the latency model says
    "truncate",  # the body ends in its middle, and the connection with it
    "invalid-json",  # HTTP 200 with a body that is no JSON
    "order",  # items in another order than asked; their `index` is right
    "count",  # `amount` items too many, or too few if negative
    "nan",  # a vector of NaN
    "zero",  # a vector of zeros
    "dimensions",  # a vector that is `amount` numbers longer, or shorter if negative
    "refuse",  # connections are refused, open ones reset: by window only
    "capacity",  # the capacity is `amount`: by window only
]
_TIMED: tuple[FaultKind, ...] = ("stall", "slow")
_BY_WINDOW: tuple[FaultKind, ...] = ("refuse", "capacity")
_COUNTED: tuple[FaultKind, ...] = ("count", "dimensions", "capacity")
_NORMAL = NormalDist()
MOST_DIMENSIONS = 16_384


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Checks plain values.

        Raises:
            SettingsError: an unknown name, or a value that cannot be.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or cls.__name__
            secret = "key" in where
            given = "" if secret or not first["loc"] else f", got {first['input']!r}"
            said = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"simulate: {where}: {said}{given}.") from None


class Latency(_Frozen):
    """How long a call takes: a cost in its size, times a factor drawn for the call.

    (base + per_text · texts + per_token · tokens + per_output_token · tokens written) · factor.
    The factor is 1 on average: uniform in 1 ± `width`, or lognormal (exp(sigma · z − sigma² / 2)).
    Only "bimodal" is not: `slow_share` of the calls take `slow_factor` times as long as the rest.
    """

    base_ms: float = Field(default=0.0, ge=0)
    per_text_ms: float = Field(default=0.0, ge=0)
    per_token_ms: float = Field(default=0.0, ge=0)
    per_output_token_ms: float = Field(default=0.0, ge=0)
    spread: Literal["none", "uniform", "lognormal", "bimodal"] = "none"
    width: float = Field(default=0.1, ge=0, le=1)
    sigma: float = Field(default=0.35, ge=0, le=3)
    slow_share: float = Field(default=0.05, ge=0, le=1)
    slow_factor: float = Field(default=5.0, ge=1)

    def typical_s(self, texts: int, tokens: int, output_tokens: int = 0) -> float:
        """Modelled seconds at factor 1."""
        written = self.per_output_token_ms * output_tokens
        asked = self.per_text_ms * texts + self.per_token_ms * tokens
        return (self.base_ms + asked + written) / 1000

    def mean_s(self, texts: int, tokens: int, output_tokens: int = 0) -> float:
        """Modelled seconds on average: what an ideal is reckoned with."""
        slow = self.slow_share * (self.slow_factor - 1) if self.spread == "bimodal" else 0.0
        return self.typical_s(texts, tokens, output_tokens) * (1 + slow)

    def factor(self, uniform: float) -> float:
        """The factor at a quantile in (0, 1)."""
        match self.spread:
            case "uniform":
                return 1 + self.width * (2 * uniform - 1)
            case "lognormal":
                return math.exp(self.sigma * _NORMAL.inv_cdf(uniform) - self.sigma**2 / 2)
            case "bimodal":
                return self.slow_factor if uniform < self.slow_share else 1.0
            case _:
                return 1.0


class Fault(_Frozen):
    """Something that goes wrong, and for which calls: all conditions must hold.

    Attributes:
        kind: what goes wrong; see `FaultKind`.
        rate: share of the calls, drawn under the seed.
        from_s, until_s: the window, modelled seconds from the first call; None: without end.
        marker: only calls with a text that contains it; vectors are spoilt for these texts alone.
        endpoint: only these calls.
        above_in_flight: only while more calls than this are under way.
        at_most: how many calls altogether.
    """

    kind: FaultKind
    rate: float = Field(default=1.0, ge=0, le=1)
    from_s: float = Field(default=0.0, ge=0)
    until_s: float | None = None
    marker: str = ""
    endpoint: Endpoint | None = None
    above_in_flight: int = Field(default=0, ge=0)
    at_most: int | None = Field(default=None, ge=1)
    status: int = Field(default=503, ge=400, le=599)
    seconds: float = Field(default=0.0, ge=0)
    amount: int = Field(default=-1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.until_s is not None and self.until_s <= self.from_s:
            raise ValueError(f"the window ends at {self.until_s} s, not after {self.from_s} s")
        if self.kind in _TIMED and not self.seconds:
            raise ValueError(f"{self.kind!r} needs 'seconds' above 0")
        if self.kind == "capacity" and self.amount < 1:
            raise ValueError("'capacity' needs 'amount' of 1 or more")
        if self.kind in ("count", "dimensions") and not self.amount:
            raise ValueError(f"{self.kind!r} needs an 'amount' other than 0")
        if self.kind in _BY_WINDOW and (self.rate < 1 or self.marker or self.at_most):
            raise ValueError(f"{self.kind!r} goes by its window alone")
        return self

    @property
    def name(self) -> str:
        """How it is counted: its kind, an error by its status."""
        return str(self.status) if self.kind == "status" else self.kind

    @property
    def by_window(self) -> bool:
        """Whether it is a state of the provider, not of a call."""
        return self.kind in _BY_WINDOW

    def open_at(self, now_s: float) -> bool:
        """Whether the window is open."""
        return self.from_s <= now_s and (self.until_s is None or now_s < self.until_s)


class SimulatorSettings(_Frozen):
    """One simulated provider.

    Attributes:
        time_scale: real seconds a modelled second takes.
        draw_by: what a call's luck hangs on. "content": its texts and how often they were asked
            for before, so that neither concurrency nor order matters; "ordinal": its number.
        language: of the chat model; None: that of the embedder, else English.
        embedder: folder of a saved `LsaEmbedder`; without one, vectors are `expected_vector`.
        burst_s: the budget that can be saved up, in seconds of its flow.
        retry_after: "seconds", "milliseconds" (both headers), "date", "none", or what is to be
            sent word for word.
        limit_headers: "bucket": `x-ratelimit-limit-*` is what the bucket can hold;
            "per-minute": what a minute of the client's own clock allows.
        too_large_status: for more than `max_texts` texts or `max_tokens` tokens a call.
    """

    seed: int = 0
    time_scale: float = Field(default=1.0, gt=0)
    draw_by: Literal["content", "ordinal"] = "content"
    models: tuple[str, ...] = ("simulated",)
    api_key: SecretStr = SecretStr("")
    embedder: Path | None = None
    dimensions: int = Field(default=256, ge=1, le=MOST_DIMENSIONS)
    language: str | None = None
    latency: Latency = Latency()
    chat_latency: Latency = Latency()
    capacity: int | None = Field(default=None, ge=1)
    over_capacity: Literal["queue", "reject"] = "queue"
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    burst_s: float = Field(default=60.0, gt=0)
    retry_after: str = "seconds"
    limit_headers: Literal["bucket", "per-minute"] = "per-minute"
    max_texts: int | None = Field(default=2048, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_text_tokens: int | None = Field(default=None, ge=1)
    too_large_status: Literal[400, 413] = 413
    faults: tuple[Fault, ...] = ()

    def changed(self, **changes: Any) -> SimulatorSettings:
        """These settings with some changed; `latency` and `chat_latency` are changed in part.

        Raises:
            SettingsError: an unknown name, or a value that cannot be.
        """
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        for name, value in changes.items():
            before = values.get(name)
            if isinstance(before, Latency) and isinstance(value, Mapping):
                values[name] = before.model_dump() | dict(value)
            else:
                values[name] = value
        return SimulatorSettings.of(values)

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON data from which `of` makes the same settings; it holds the key."""
        return self.public() | {"api_key": self.api_key.get_secret_value()}

    def public(self) -> dict[str, Any]:
        """Plain JSON data without the key."""
        return self.model_dump(mode="json", exclude={"api_key"})

    def least_s(self, calls: int, tokens: int) -> float:
        """Modelled seconds that the budgets impose on work, starting with full buckets."""
        return max(
            (
                (need - per_minute * self.burst_s / 60) * 60 / per_minute
                for need, per_minute in (
                    (calls, self.requests_per_minute),
                    (tokens, self.tokens_per_minute),
                )
                if per_minute
            ),
            default=0.0,
        )


def parse_fault(text: str) -> Fault:
    """Reads a fault as it is written on the command line: NAME=VALUE[,field=value…].

    NAME is a kind, an HTTP status, "outage" (503) or "poison" (400); the value is what matters
    most of it:

        503=0.05    reset=0.01    order=1           a rate
        stall=8,rate=0.02         slow=30           seconds
        outage=10-16              refuse=10-16      a window in seconds
        capacity=4,from_s=10,until_s=20             calls at once
        poison=MARKER                               the text that is refused

    Raises:
        SettingsError: it cannot be read so.
    """
    (name, equals, value), *more = (part.partition("=") for part in text.split(","))
    if not equals or any(not sign for _, sign, _ in more):
        raise SettingsError(f"simulate: fault {text!r}: expected NAME=VALUE[,field=value…].")
    fields: dict[str, Any] = {}
    if name.isdigit():
        fields = {"kind": "status", "status": name, "rate": value}
    elif name == "poison":
        fields = {"kind": "status", "status": 400, "marker": value}
    elif name in ("outage", "refuse"):
        start, _, end = value.partition("-")
        kind = "status" if name == "outage" else name
        fields = {"kind": kind, "from_s": start, "until_s": end or None}
    else:
        meant = "seconds" if name in _TIMED else "amount" if name == "capacity" else "rate"
        fields = {"kind": name, meant: value}
    return Fault.of(fields | {field: given for field, _, given in more})


def parse_faults(texts: Sequence[str]) -> tuple[Fault, ...]:
    """`parse_fault` for several."""
    return tuple(map(parse_fault, texts))
