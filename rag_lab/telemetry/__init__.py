"""What is measured while things run: traces of requests, the event loop's lag, health."""

from rag_lab.telemetry.health import Finding, Health, HealthStatus, ProviderFigures, health_of
from rag_lab.telemetry.loop_lag import LoopLag, LoopLagMonitor, Stall
from rag_lab.telemetry.trace import (
    Trace,
    current_trace,
    degrade,
    note,
    spend,
    stage,
    tracing,
    tracing_within,
)

__all__ = [
    "Finding",
    "Health",
    "HealthStatus",
    "LoopLag",
    "LoopLagMonitor",
    "ProviderFigures",
    "Stall",
    "Trace",
    "current_trace",
    "degrade",
    "health_of",
    "note",
    "spend",
    "stage",
    "tracing",
    "tracing_within",
]
