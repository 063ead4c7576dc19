"""Providers worth measuring against, as data."""

from __future__ import annotations

from typing import Any, Final

from rag_lab.errors import SettingsError
from rag_lab.simulate.settings import SimulatorSettings

PRESETS: Final[dict[str, dict[str, Any]]] = {
    # A large hosted provider on a good day.
    "openai-like": {
        "dimensions": 1536,
        "latency": {"base_ms": 180, "per_token_ms": 0.02, "spread": "lognormal", "sigma": 0.35},
        "chat_latency": {
            "base_ms": 400,
            "per_token_ms": 0.05,
            "per_output_token_ms": 12,
            "spread": "lognormal",
            "sigma": 0.35,
        },
        "requests_per_minute": 3_000,
        "tokens_per_minute": 1_000_000,
        "max_texts": 2_048,
        "max_tokens": 300_000,
        "max_text_tokens": 8_192,
        "too_large_status": 400,
    },
    # What the audited systems waited for: 20 to 25 s a call, whatever its size.
    "jina-slow": {
        "dimensions": 1024,
        "latency": {"base_ms": 22_500, "spread": "uniform", "width": 1 / 9},
        "chat_latency": {"base_ms": 22_500, "spread": "uniform", "width": 1 / 9},
        "requests_per_minute": 500,
        "tokens_per_minute": 1_000_000,
        "max_texts": 2_048,
    },
    # A free tier: little a minute, nothing saved up for long, few calls at once.
    "tight-limits": {
        "dimensions": 512,
        "latency": {"base_ms": 200, "spread": "lognormal"},
        "chat_latency": {"base_ms": 500, "per_output_token_ms": 5, "spread": "lognormal"},
        "capacity": 8,
        "over_capacity": "reject",
        "requests_per_minute": 120,
        "tokens_per_minute": 120_000,
        "burst_s": 10,
        "max_texts": 256,
        "max_tokens": 16_000,
    },
    # Everything that was ever seen to go wrong, in the first two minutes.
    "bad-day": {
        "dimensions": 512,
        "latency": {"base_ms": 200, "spread": "bimodal", "slow_share": 0.05, "slow_factor": 8},
        "chat_latency": {"base_ms": 600, "per_output_token_ms": 8, "spread": "lognormal"},
        "capacity": 32,
        "max_texts": 512,
        "faults": (
            {"kind": "status", "status": 503, "rate": 0.03},
            {"kind": "status", "status": 500, "rate": 0.02, "seconds": 0.5},
            {"kind": "status", "status": 429, "rate": 0.02},
            {"kind": "reset", "rate": 0.02, "seconds": 0.1},
            {"kind": "stall", "rate": 0.01, "seconds": 8},
            {"kind": "order", "rate": 0.3, "endpoint": "embeddings"},
            {"kind": "truncate", "rate": 0.01},
            {"kind": "invalid-json", "rate": 0.01},
            {"kind": "count", "rate": 0.01, "endpoint": "embeddings"},
            {"kind": "nan", "rate": 0.01, "endpoint": "embeddings"},
            {"kind": "zero", "rate": 0.01, "endpoint": "embeddings"},
            {"kind": "status", "status": 503, "from_s": 20, "until_s": 26},
            {"kind": "capacity", "amount": 4, "from_s": 40, "until_s": 60},
            {"kind": "refuse", "from_s": 80, "until_s": 83},
        ),
    },
}


def preset(name: str, **changes: Any) -> SimulatorSettings:
    """The settings of a preset, with some changed.

    Raises:
        SettingsError: there is no such preset, or no such setting.
    """
    if name not in PRESETS:
        raise SettingsError(f"simulate: no preset {name!r}; there are {', '.join(PRESETS)}.")
    return SimulatorSettings.of(PRESETS[name]).changed(**changes)
