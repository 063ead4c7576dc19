"""rag-lab: a workbench to see how fast and how good a retrieval-augmented generation system is.

Names below are loaded on first use, so that `import rag_lab` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load_corpus": "rag_lab.corpora",
    "list_corpora": "rag_lab.corpora",
    "Corpus": "rag_lab.corpora",
    "questions_on": "rag_lab.corpora",
    "Question": "rag_lab.records",
    "Answer": "rag_lab.records",
    "load_settings": "rag_lab.settings",
    "Settings": "rag_lab.settings",
    "build_models": "rag_lab.models",
    "Gateway": "rag_lab.gateway.gateway",
    "LoopLagMonitor": "rag_lab.telemetry",
    "ingest": "rag_lab.index",
    "open_index": "rag_lab.index",
    "LabIndex": "rag_lab.index",
    "DenseRetriever": "rag_lab.retrieval",
    "KeywordRetriever": "rag_lab.retrieval",
    "HybridRetriever": "rag_lab.retrieval",
    "NamedRetriever": "rag_lab.retrieval",
    "PartsRetriever": "rag_lab.asking",
    "RuleDecomposer": "rag_lab.asking",
    "LLMDecomposer": "rag_lab.asking",
    "LabQueryEngine": "rag_lab.asking",
    "rank_questions": "rag_lab.evaluation",
    "score_ranking": "rag_lab.evaluation",
    "compare": "rag_lab.evaluation",
    "dry_run": "rag_lab.evaluation",
    "run_sync": "rag_lab.sync",
    "notebook_setup": "rag_lab.sync",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rag_lab' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
