"""What becomes of a call: refused, delayed, spoilt or served. Seeded, and without a clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from rag_lab.simulate.limits import Excess, RateLimits
from rag_lab.simulate.settings import Endpoint, Fault, Latency, SimulatorSettings

_CHARS_A_TOKEN = 4


def tokens_of(text: str) -> int:
    """What a text is counted as: a token for every four characters, at least one."""
    return max(1, -(-len(text) // _CHARS_A_TOKEN))


@dataclass(frozen=True, slots=True)
class Call:
    """A well-formed request: `texts` are its inputs, or the messages of a chat."""

    endpoint: Endpoint
    model: str
    texts: tuple[str, ...]
    tokens: int
    output_tokens: int = 0
    """Tokens of the answer; unknown until it is written."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP error and what it says."""

    status: int
    message: str
    code: str = ""
    type: str = "invalid_request_error"
    headers: dict[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How a call that is let in will be served.

    Attributes:
        key: names the call's luck; further draws are made from it.
        factor: of the latency model.
        faults: what happens to it, in the order of the settings.
        headers: what is left of the budgets.
    """

    key: bytes
    factor: float
    faults: tuple[Fault, ...]
    headers: dict[str, str]

    def has(self, kind: str) -> Fault | None:
        """The first of its faults of a kind."""
        return next((fault for fault in self.faults if fault.kind == kind), None)


class Provider:
    """Decides about calls, in the order in which they are shown to it.

    The same settings and calls give the same decisions. What is counted lives here (budgets,
    ordinals, how often a fault has struck); a new one starts afresh.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.limits = RateLimits(settings)
        self._seed = settings.seed.to_bytes(8, "little", signed=True)
        self._seen: Counter[bytes] = Counter()
        self._struck: Counter[int] = Counter()

    def change(self, settings: SimulatorSettings) -> None:
        """Goes on with other settings; budgets are only refilled if they themselves change."""
        if _budget(settings) != _budget(self.settings):
            self.limits = RateLimits(settings)
        if settings.faults != self.settings.faults:
            self._struck.clear()
        self.settings = settings

    def authorize(self, authorization: str) -> Refusal | None:
        """401 unless the key is right, or none is asked for."""
        key = self.settings.api_key.get_secret_value()
        if not key or authorization == f"Bearer {key}":
            return None
        return Refusal(401, "Incorrect API key provided.", "invalid_api_key")

    def decide(
        self, call: Call, now_s: float, in_flight: int = 1, *, full: bool = False
    ) -> Plan | Refusal:
        """What becomes of a call that arrives now.

        Args:
            in_flight: calls under way, this one included.
            full: whether every slot is taken.
        """
        if refusal := self._unacceptable(call):
            return refusal
        key = self._key(call)
        faults = self._strike(call, key, now_s, in_flight)
        for fault in faults:
            if fault.kind == "status":
                return self._failed(fault)
        if full and self.settings.over_capacity == "reject":
            return self._overloaded(now_s)
        if excess := self.limits.take(call.tokens, now_s):
            return self._limited(excess, now_s)
        latency = self._latency(call)
        factor = 1.0 if latency.spread == "none" else latency.factor(uniform(key, "latency"))
        return Plan(key, factor, faults, self.limits.headers(now_s))

    def latency_factors(self, calls: int) -> list[float]:
        """The factors of the first embedding calls, where luck hangs on their number."""
        latency = self.settings.latency
        luck = (self._luck(b"", number) for number in range(calls))
        return [latency.factor(uniform(key, "latency")) for key in luck]

    def service_s(self, call: Call, plan: Plan) -> float:
        """Modelled seconds that a call takes once it is being served."""
        if slow := plan.has("slow"):
            return slow.seconds
        typical_s = self._latency(call).typical_s(len(call.texts), call.tokens, call.output_tokens)
        return typical_s * plan.factor + sum(f.seconds for f in plan.faults if f.kind == "stall")

    def capacity(self, now_s: float) -> int | None:
        """Calls at once now: the capacity, or that of a window that is open."""
        for fault in self.settings.faults:
            if fault.kind == "capacity" and fault.open_at(now_s):
                return fault.amount
        return self.settings.capacity

    def refusing(self, now_s: float) -> bool:
        """Whether connections are refused now."""
        return any(f.kind == "refuse" and f.open_at(now_s) for f in self.settings.faults)

    def edges(self) -> list[float]:
        """When windows of the provider's own state open or close."""
        own = [fault for fault in self.settings.faults if fault.by_window]
        ends = [fault.until_s for fault in own if fault.until_s is not None]
        return sorted({fault.from_s for fault in own}.union(ends))

    def _latency(self, call: Call) -> Latency:
        chat = call.endpoint == "chat"
        return self.settings.chat_latency if chat else self.settings.latency

    def _key(self, call: Call) -> bytes:
        """Sixteen bytes from the seed and either the call's content and repeat, or its number."""
        if self.settings.draw_by == "ordinal":
            content = b""
        else:
            joined = "\x1f".join((call.endpoint, *call.texts))
            content = _digest(joined.encode("utf-8", "surrogatepass"))
        repeat = self._seen[content]
        self._seen[content] += 1
        return self._luck(content, repeat)

    def _luck(self, content: bytes, repeat: int) -> bytes:
        return _digest(self._seed + content + repeat.to_bytes(8, "little"))

    def _strike(self, call: Call, key: bytes, now_s: float, in_flight: int) -> tuple[Fault, ...]:
        struck = []
        for place, fault in enumerate(self.settings.faults):
            if (
                fault.by_window
                or not fault.open_at(now_s)
                or (fault.endpoint and fault.endpoint != call.endpoint)
                or in_flight <= fault.above_in_flight
                or (fault.at_most is not None and self._struck[place] >= fault.at_most)
                or (fault.marker and not any(fault.marker in text for text in call.texts))
                or (fault.rate < 1 and uniform(key, f"{place} {fault.name}") >= fault.rate)
            ):
                continue
            self._struck[place] += 1
            struck.append(fault)
        return tuple(struck)

    def _unacceptable(self, call: Call) -> Refusal | None:
        known = self.settings
        if call.model not in known.models:
            message = f"The model {call.model!r} does not exist. There is: {_list(known.models)}."
            return Refusal(404, message, "model_not_found")
        if known.max_text_tokens is not None:
            longest = max(map(tokens_of, call.texts))
            if longest > known.max_text_tokens:
                message = (
                    f"This model's maximum context length is {known.max_text_tokens} tokens, "
                    f"however you requested {longest} tokens. Please reduce your prompt."
                )
                return Refusal(400, message, "context_length_exceeded")
        if known.max_texts is not None and len(call.texts) > known.max_texts:
            message = f"Too many inputs: {len(call.texts)}, at most {known.max_texts} a request."
            return Refusal(known.too_large_status, message, "too_many_inputs")
        if known.max_tokens is not None and call.tokens > known.max_tokens:
            message = f"Requested {call.tokens} tokens, max {known.max_tokens} tokens per request."
            return Refusal(known.too_large_status, message, "max_tokens_per_request")
        return None

    def _overloaded(self, now_s: float) -> Refusal:
        return Refusal(
            429,
            "The engine is overloaded: too many calls at once.",
            "overloaded",
            "overloaded_error",
            self.limits.headers(now_s) | self.limits.retry_headers(1),
        )

    def _failed(self, fault: Fault) -> Refusal:
        reason = "input was rejected" if fault.marker else "error on order"
        headers = self.limits.retry_headers(1) if fault.status in (429, 503) else {}
        return Refusal(
            fault.status,
            f"The {reason} (simulated HTTP {fault.status}).",
            "simulated_fault",
            "invalid_request_error" if fault.status < 429 else "server_error",
            headers,
            fault.seconds,
            (fault,),
        )

    def _limited(self, excess: Excess, now_s: float) -> Refusal:
        never = excess.asked > excess.limit
        message = (
            f"Request too large: limit {excess.limit:g} {excess.budget}, "
            f"requested {excess.asked:g}. It must be made smaller."
            if never
            else f"Rate limit reached for {excess.budget} per min. "
            f"Please try again in {excess.wait_s * self.settings.time_scale:.3f}s."
        )
        headers = self.limits.headers(now_s) | self.limits.retry_headers(excess.wait_s)
        return Refusal(429, message, "rate_limit_exceeded", excess.budget, headers)


def uniform(key: bytes, what: str) -> float:
    """A number in (0, 1) for a purpose; the same key and purpose give the same."""
    drawn = int.from_bytes(blake2b(key + what.encode(), digest_size=8).digest(), "little")
    return (drawn + 0.5) / 2**64


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _budget(settings: SimulatorSettings) -> tuple[object, ...]:
    return (
        settings.requests_per_minute,
        settings.tokens_per_minute,
        settings.burst_s,
        settings.retry_after,
        settings.limit_headers,
        settings.time_scale,
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
