"""A provider to measure against: OpenAI-compatible, on loopback, as slow and as faulty as told."""

from rag_lab.simulate.local import serving_corpus
from rag_lab.simulate.presets import PRESETS, preset
from rag_lab.simulate.process import SimulatedProvider, simulated
from rag_lab.simulate.provider import tokens_of
from rag_lab.simulate.settings import Fault, Latency, SimulatorSettings, parse_fault
from rag_lab.simulate.stats import CallTime, Stats
from rag_lab.simulate.vectors import expected_vector

__all__ = [
    "PRESETS",
    "CallTime",
    "Fault",
    "Latency",
    "SimulatedProvider",
    "SimulatorSettings",
    "Stats",
    "expected_vector",
    "parse_fault",
    "preset",
    "serving_corpus",
    "simulated",
    "tokens_of",
]
