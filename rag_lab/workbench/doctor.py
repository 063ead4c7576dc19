"""What is configured, what is missing, how to fix it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from rag_lab.corpora.registry import BUNDLED, list_corpora
from rag_lab.errors import RagLabError
from rag_lab.models import build_models
from rag_lab.settings import Settings, load_settings

State = Literal["ok", "note", "problem"]
_PACKAGES = ("llama-index-core", "faiss-cpu", "bm25s", "papermill", "nbconvert", "ragas")
_LOW_DISK_GIB = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    state: State
    detail: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def examine() -> list[Finding]:
    """Looks at Python, packages, folders, corpora and models; calls no model."""
    try:
        settings = load_settings()
    except RagLabError as error:
        return [Finding("settings", "problem", str(error))]
    return [
        _python(),
        *_packages(),
        *_folders(settings),
        _corpora(settings),
        *_models(settings),
        _dotenv(),
    ]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("Python", "ok", found)
    return Finding("Python", "problem", found, "Use Python 3.11, 3.12 or 3.13.")


def _packages() -> Iterator[Finding]:
    for name in _PACKAGES:
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "problem", "not installed", 'pip install -e ".[dev]"')
    try:
        community = version("langchain-community")
    except PackageNotFoundError:
        return
    if tuple(map(int, community.split(".")[:3])) >= (0, 4, 2):
        yield Finding(
            "langchain-community",
            "problem",
            f"{community}: ragas 0.4.3 cannot be imported with it",
            'pip install "langchain-community<0.4.2"',
        )


def _folders(settings: Settings) -> Iterator[Finding]:
    data = settings.paths.data_folder
    if data.is_dir():
        yield Finding("data folder", "ok", str(data))
    else:
        yield Finding("data folder", "note", f"{data} does not exist yet", "'data add' makes it.")
    cache = settings.paths.cache_folder
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        remedy = "Set RAG_LAB_CACHE to a folder that can be written."
        yield Finding("cache folder", "problem", f"{cache} cannot be written", remedy)
        return
    free = shutil.disk_usage(existing).free / 2**30
    state: State = "ok" if free > _LOW_DISK_GIB else "problem"
    remedy = "" if state == "ok" else "Free some space, or set RAG_LAB_CACHE elsewhere."
    yield Finding("cache folder", state, f"{cache} ({free:,.1f} GiB free)", remedy)


def _corpora(settings: Settings) -> Finding:
    names = [entry.name for entry in list_corpora(settings.paths)]
    if names:
        return Finding("corpora", "ok", ", ".join(names))
    remedy = "Install with 'pip install -e .' from a checkout, or 'rag-lab data add'."
    return Finding("corpora", "problem", f"none; {BUNDLED} is not there", remedy)


def _models(settings: Settings) -> Iterator[Finding]:
    embed, llm = settings.embed, settings.llm
    try:
        build_models(settings)
    except RagLabError as error:
        yield Finding("models", "problem", str(error))
        return
    if embed.model:
        key = "key set" if embed.api_key.get_secret_value() else "no key"
        where = embed.base_url or "api.openai.com"
        yield Finding("embeddings", "ok", f"{embed.model} at {where} ({key})")
    else:
        yield Finding(
            "embeddings",
            "note",
            "local (latent semantic analysis fitted on the corpus); no network, no key",
            "For a real model set RAG_LAB_EMBED_MODEL, RAG_LAB_EMBED_BASE_URL and "
            "RAG_LAB_EMBED_API_KEY.",
        )
    if llm.model:
        key = "key set" if llm.api_key.get_secret_value() else "no key"
        yield Finding("answers", "ok", f"{llm.model} at {llm.base_url or 'api.openai.com'} ({key})")
    else:
        yield Finding(
            "answers",
            "note",
            "extractive: sentences quoted from the corpus",
            "For written answers set RAG_LAB_LLM_MODEL, RAG_LAB_LLM_BASE_URL and "
            "RAG_LAB_LLM_API_KEY.",
        )


def _dotenv() -> Finding:
    file = Path(".env")
    if not file.is_file():
        return Finding(".env", "note", "none in this folder", "Optional: one RAG_LAB_… a line.")
    readable_by_all = bool(file.stat().st_mode & 0o077)
    if readable_by_all:
        return Finding(".env", "problem", "other users can read it", "chmod 600 .env")
    return Finding(".env", "ok", "read, and private to you")
