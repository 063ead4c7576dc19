"""Shared by all tests: folders of their own, no keys, and the public corpora where they are."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from command import Run, runner
from rag_lab.settings import PathSettings
from rag_lab.simulate import SimulatedProvider, SimulatorSettings

# Taken before any test changes the environment.
_PUBLIC = os.environ.get("RAG_LAB_TEST_CORPORA") or os.environ.get("RAG_LAB_DATA")
_NO_PUBLIC = "the public corpora are not on this machine (set RAG_LAB_DATA)"

# A first import of LlamaIndex may fall into any example, so no example has a deadline.
settings.register_profile("rag-lab", deadline=None, database=None)
settings.load_profile("rag-lab")


@pytest.fixture(autouse=True)
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PathSettings:
    """Empty data and cache folders, a working folder without `.env`, and no key or setting."""
    for name in [*os.environ]:
        if name.startswith("RAG_LAB_") or name in ("OPENAI_API_KEY", "API_KEY"):
            monkeypatch.delenv(name)
    folders = {name: tmp_path / name for name in ("data", "cache", "work")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setenv("RAG_LAB_DATA", str(folders["data"]))
    monkeypatch.setenv("RAG_LAB_CACHE", str(folders["cache"]))
    monkeypatch.chdir(folders["work"])
    return PathSettings()


@pytest.fixture(scope="session")
def real_corpora() -> Path:
    """The folder of the public corpora; the test is skipped where there is none."""
    folder = Path(_PUBLIC).expanduser().resolve() if _PUBLIC else None
    if folder is None or not folder.is_dir():
        pytest.skip(_NO_PUBLIC)
    return folder


@pytest.fixture(scope="session")
def real_corpus(real_corpora: Path) -> Callable[[str], Path]:
    """Gives the folder of one public corpus, or skips."""

    def folder_of(name: str) -> Path:
        folder = real_corpora / name
        if not folder.is_dir():
            pytest.skip(f"{name}: {_NO_PUBLIC}")
        return folder

    return folder_of


Write = Callable[[str, Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes bytes, a text, JSON lines (a list) or one JSON object (a dict); packs `.gz`."""

    def write(name: str, content: Any) -> Path:
        if isinstance(content, list):
            content = "".join(f"{json.dumps(row)}\n" for row in content)
        elif isinstance(content, dict):
            content = json.dumps(content, indent=1 if name.startswith("indented") else None)
        data = content if isinstance(content, bytes) else content.encode()
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process."""
    return runner(monkeypatch, capsys)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of three documents, one of which is unusable."""
    file = tmp_path / "rows.jsonl"
    texts = {"a": "The anchor is made of iron.", "b": "The lantern burns oil.", "c": ""}
    lines = [json.dumps({"id": k, "title": k.upper(), "text": t}) for k, t in texts.items()]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


Use = Callable[..., Awaitable[SimulatedProvider]]
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[SimulatedProvider]:
    """One simulated provider for all tests of a process; `use` resets it for each."""
    provider = SimulatedProvider.start(SimulatorSettings())
    yield provider
    provider.stop()


@pytest.fixture
def use(shared_provider: SimulatedProvider) -> Use:
    """Resets the provider to settings, given as `SimulatorSettings` takes them."""

    async def use(**values: Any) -> SimulatedProvider:
        await shared_provider.reset(SimulatorSettings.of({"dimensions": 8, **values}))
        return shared_provider

    return use


@pytest.fixture
def until() -> Until:
    """Waits for something that the server's process will do."""

    async def until(done: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(1_000):
            if await done():
                return
            await asyncio.sleep(0.01)
        raise TimeoutError("it has not come about within 10 s")

    return until
