"""Is it well, and if not, what is to be done: rules over figures, nothing is measured here."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rag_lab.telemetry.loop_lag import LoopLag

HealthStatus = Literal["healthy", "degraded", "critical"]

# An answer needs about ten wake-ups of the loop, so every tenth meets the p99. 50 ms are a tenth of
# a usual call; at 250 ms half of what we report as the provider's latency is the loop's.
LAG_DEGRADED_MS = 50.0
LAG_CRITICAL_MS = 250.0

# The mean wait for a slot. After 1 s somebody who waits notices, after 10 s the thought is lost
# (Nielsen, Usability Engineering, 1993); the call itself takes about the first second.
WAIT_DEGRADED_S = 1.0
WAIT_CRITICAL_S = 10.0

# One call in twenty made again is what p95 sees. Retries are paid for by a fifth of what succeeds:
# with more failures than one in six their reserve runs out, and requests fail for good.
ERRORS_DEGRADED = 0.05
ERRORS_CRITICAL = 1 / 6

# A refused call comes back later, at no other cost; from a half on, more is refused than answered.
THROTTLED_DEGRADED = 0.1
THROTTLED_CRITICAL = 0.5

# Fewer are chance: one failure among ten calls says nothing about a share.
MIN_FAILURES = 3

# Below a tenth the next burst has to wait for the provider's minute.
BUDGET_DEGRADED = 0.1

# A pause that the provider asked for holds every call; nobody waits longer than this for an answer.
PAUSE_CRITICAL_S = 10.0

_WORSE: dict[HealthStatus, int] = {"healthy": 0, "degraded": 1, "critical": 2}
_MARKS: dict[HealthStatus, str] = {"healthy": "✓", "degraded": "▲", "critical": "✖"}


@dataclass(frozen=True, slots=True)
class ProviderFigures:
    """One provider and model at one moment.

    Attributes:
        name: model at host.
        limit: calls that may be in flight.
        waiting: callers without a slot.
        calls: ended in the rolling window; the shares are of them.
        error_share: 5xx, timeouts, no connection.
        throttled_share: refused for now (429).
        retry_in_s: until a failing provider is asked again.
        requests_left_share: of a minute's requests; None where no limit is known.
        tokens_left_share: likewise.
        paused_s: the provider's pause that is left.
        p50_s: of the calls in the window; None without calls.
    """

    name: str
    limit: int
    in_flight: int = 0
    waiting: int = 0
    calls: int = 0
    error_share: float = 0.0
    throttled_share: float = 0.0
    breaker: Literal["working", "failing", "recovering"] = "working"
    breaker_reason: str = ""
    retry_in_s: float | None = None
    requests_left_share: float | None = None
    tokens_left_share: float | None = None
    paused_s: float = 0.0
    p50_s: float | None = None
    p95_s: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: its figure as text, and what to do; empty where healthy."""

    what: str
    status: HealthStatus
    figure: str
    recommendation: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """The findings, worst first, and the status of the worst."""

    status: HealthStatus
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.findings:
            return f"{self.status}: nothing has been measured yet"
        width = max(len(finding.what) for finding in self.findings)
        lines: list[str] = [self.status]
        for finding in self.findings:
            mark = f"{_MARKS[finding.status]} {finding.status}"
            lines.append(f"  {mark:<10}  {finding.what:<{width}}  {finding.figure}")
            if finding.recommendation:
                lines.append(f"{'':<14}→ {finding.recommendation}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{title}</th>" for title in ("status", "what", "figure", "to do"))
        body = "".join(f"<tr>{_cells(finding)}</tr>" for finding in self.findings)
        return (
            f"<p><strong>{_MARKS[self.status]} {self.status}</strong></p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def _cells(finding: Finding) -> str:
    status = f"{_MARKS[finding.status]} {finding.status}"
    if finding.status != "healthy":
        status = f"<strong>{status}</strong>"
    texts = (finding.what, finding.figure, finding.recommendation)
    return f"<td>{status}</td>" + "".join(f"<td>{html.escape(text)}</td>" for text in texts)


def health_of(providers: Sequence[ProviderFigures], loop: LoopLag | None = None) -> Health:
    """Judges each provider's slots, errors, breaker and budget, and the event loop's lag."""
    findings = [_loop_lag(loop)] if loop is not None and loop.samples else []
    for provider in providers:
        findings += [rule(provider) for rule in (_in_flight, _errors, _breaker, _budget)]
    findings.sort(key=lambda finding: -_WORSE[finding.status])
    return Health(findings[0].status if findings else "healthy", tuple(findings))


def _graded(value: float, degraded: float, critical: float) -> HealthStatus:
    if value >= critical:
        return "critical"
    return "degraded" if value >= degraded else "healthy"


def _worst(*states: HealthStatus) -> HealthStatus:
    return max(states, key=_WORSE.__getitem__)


def _finding(what: str, status: HealthStatus, figure: str, recommendation: str) -> Finding:
    return Finding(what, status, figure, "" if status == "healthy" else recommendation)


def _loop_lag(loop: LoopLag) -> Finding:
    seen = next((stall for stall in loop.stalls if stall.where), None)
    where = f"what runs at {seen.where}" if seen else "blocking work"
    return _finding(
        "event loop lag",
        _graded(loop.p99_ms, LAG_DEGRADED_MS, LAG_CRITICAL_MS),
        f"p99 {loop.p99_ms:.0f} ms, longest {loop.max_ms:.0f} ms",
        f"Move {where} off the loop (await asyncio.to_thread(…)), or do it in smaller pieces.",
    )


def _in_flight(provider: ProviderFigures) -> Finding:
    status: HealthStatus = "healthy"
    parts = [f"{provider.in_flight} of {provider.limit}"]
    todo = ""
    if provider.waiting and provider.p50_s is None:
        status = "degraded"
        parts.append(f"{provider.waiting} waiting, no call has come back yet")
        todo = "Wait for the first reply; if none comes, the provider hangs: lower timeout_s."
    elif provider.waiting and provider.p50_s is not None:
        wait_s = provider.waiting * provider.p50_s / max(1, provider.limit)
        status = _graded(wait_s, WAIT_DEGRADED_S, WAIT_CRITICAL_S)
        parts.append(f"{provider.waiting} waiting for about {wait_s:.1f} s")
        todo = (
            f"Ask less at once, or use a provider that bears more than {provider.limit} calls at "
            "a time."
        )
    if provider.p50_s is not None and provider.p95_s is not None:
        parts.append(f"p50 {provider.p50_s:.2f} s, p95 {provider.p95_s:.2f} s")
    return _finding(f"{provider.name}: in flight", status, ", ".join(parts), todo)


def _errors(provider: ProviderFigures) -> Finding:
    failing = _share_status(provider.error_share, provider.calls, ERRORS_DEGRADED, ERRORS_CRITICAL)
    refused = _share_status(
        provider.throttled_share, provider.calls, THROTTLED_DEGRADED, THROTTLED_CRITICAL
    )
    todo = (
        "Look at the provider's status page. Calls go on by themselves once it answers."
        if _WORSE[failing] >= _WORSE[refused]
        else "Set its limits (requests_per_minute, tokens_per_minute), or see who shares its key."
    )
    figure = (
        f"{_percent(provider.error_share)} failed, {_percent(provider.throttled_share)} refused "
        f"(429) of {provider.calls:,} calls"
    )
    return _finding(f"{provider.name}: errors", _worst(failing, refused), figure, todo)


def _share_status(share: float, calls: int, degraded: float, critical: float) -> HealthStatus:
    # Half a failure below, since share × calls is a count that went through a division.
    few = share * calls < MIN_FAILURES - 0.5
    return "healthy" if few else _graded(share, degraded, critical)


def _breaker(provider: ProviderFigures) -> Finding:
    what = f"{provider.name}: breaker"
    reason = f" ({provider.breaker_reason})" if provider.breaker_reason else ""
    if provider.breaker == "working":
        return Finding(what, "healthy", "working")
    if provider.breaker == "recovering":
        return Finding(
            what,
            "degraded",
            f"recovering{reason}",
            "Wait: probes go to it, and each that succeeds lets more through.",
        )
    again = "" if provider.retry_in_s is None else f", asked again in {provider.retry_in_s:.1f} s"
    return Finding(
        what,
        "critical",
        f"failing{reason}{again}",
        "Check that the provider can be reached and its key is good. It is asked again by itself; "
        "until then answers go without it.",
    )


def _budget(provider: ProviderFigures) -> Finding:
    shares = {"requests": provider.requests_left_share, "tokens": provider.tokens_left_share}
    left = {name: share for name, share in shares.items() if share is not None}
    parts = [f"{_percent(max(0.0, share))} of {name} left" for name, share in left.items()]
    status: HealthStatus = "healthy"
    todo = ""
    if left and min(left.values()) < BUDGET_DEGRADED:
        status = "degraded"
        scarce = min(left, key=left.__getitem__)
        todo = f"The provider's {scarce} a minute set the pace: ask for a higher limit, or wait."
    if provider.paused_s > 0:
        status = "critical" if provider.paused_s >= PAUSE_CRITICAL_S else "degraded"
        parts.append(f"paused for {provider.paused_s:.1f} s")
        todo = "The provider asked for a pause: wait, and see who else uses its key."
    return _finding(f"{provider.name}: budget", status, ", ".join(parts) or "no limit known", todo)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
