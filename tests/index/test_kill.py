"""Killed with SIGKILL at any point and run again: nothing is lost, nothing is paid for twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from provider import Asked, Provider
from rag_lab.corpora import load_corpus
from rag_lab.gateway.cache import cache_key
from rag_lab.index.nodes import split_document
from rag_lab.models import build_models
from rag_lab.settings import load_settings
from small import files_of

BATCH = 6
CALLS = 8
NOT_KEPT = 2 * (CALLS + 2) * BATCH
"""Texts that may be paid for and not on disk: two batches more than calls are under way, and as
many are being written."""

DRIVER = """
import asyncio, os, signal, sys, threading
import bm25s, faiss, openai.resources, scipy.sparse, rag_lab.index.store, rag_lab.models.remote
from rag_lab.corpora import load_corpus
from rag_lab.index import ingest
from rag_lab.models import build_models
from rag_lab.settings import load_settings

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def work(cache, stop="", after_s="0"):
    def tell(progress):
        if f"{progress.stage} {progress.done}".startswith(stop or "never"):
            threading.Timer(float(after_s), die).start() if float(after_s) else die()
    settings = load_settings(paths={"cache": cache})
    corpus = load_corpus("anime", settings.paths)
    report = asyncio.run(ingest(corpus, build_models(settings), settings, progress=tell))
    print("done", report.complete, report.folder, flush=True)

for line in sys.stdin:  # imported once; each ingestion is a process of its own
    child = os.fork()
    if not child:
        work(*line.strip().split("|"))
        os._exit(0)
    print("pid", child, flush=True)
    os.waitpid(child, 0)
    print("over", flush=True)
"""


class Driver:
    """Runs ingestions one after the other, each in a process that can be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._child = 0

    def run(self, cache: Path, kill_at: str = "", after_s: float = 0) -> str:
        """What an ingestion says at its end; nothing if it was killed.

        It kills itself when its progress is at `kill_at` ("index 1"), or `after_s` later.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{cache}|{kill_at}|{after_s}\n")
        self._process.stdin.flush()
        said = ""
        for line in map(str.strip, self._process.stdout):
            if line.startswith("pid "):
                self._child = int(line.removeprefix("pid "))
            elif line == "over":
                return said
            else:
                said = line
        raise AssertionError("the driver ended")

    def kill(self) -> None:
        """Ends the running ingestion at once, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)

    def close(self) -> None:
        """Ends the driver."""
        self._process.communicate(timeout=30)


def done(last: str) -> Path:
    """The snapshot of an ingestion that came to its end."""
    word, complete, folder = last.split(" ", 2)
    assert (word, complete) == ("done", "True")
    return Path(folder)


def leftovers(cache: Path) -> list[Path]:
    """Folders and files of builds that were cut off."""
    return [path for path in cache.rglob(".*") if path.name != ".lock"]


def texts_kept(cache: Path, texts: dict[bytes, str]) -> set[str]:
    """The texts whose vectors are on disk."""
    if not (cache / "vectors.sqlite").exists():
        return set()
    with contextlib.closing(sqlite3.connect(cache / "vectors.sqlite")) as connection:
        try:
            rows = connection.execute("SELECT key FROM vectors").fetchall()
        except sqlite3.OperationalError:  # killed before there was a table
            return set()
    return {texts[key] for (key,) in rows}


def texts_of_anime(model: str) -> dict[bytes, str]:
    """Every embedded text of the corpus, by its key in the cache."""
    nodes = (n for d in load_corpus("anime").documents for n in split_document(d, 6_000))
    texts = [node.embedded_text for node in nodes]
    return {cache_key(model, None, "document", text): text for text in texts}


def kill_after(calls: int, provider: Provider, driver: Driver) -> Callable[[Asked], None]:
    """Kills the client when the provider has received so many calls, before it answers."""

    def heard(asked: Asked) -> None:
        if provider.calls >= calls:
            driver.kill()

    return heard


def test_remote_ingestion_killed_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(20240607)
    cache = tmp_path / "killed"
    with Provider() as provider:
        for name, value in provider.environment(BATCH_SIZE=str(BATCH)).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RAG_LAB_GATEWAY_CONCURRENCY", str(CALLS))
        embedder = build_models(load_settings()).embedder
        assert embedder is not None
        texts = texts_of_anime(embedder.identity)
        with contextlib.closing(Driver()) as driver:
            undisturbed = done(driver.run(tmp_path / "undisturbed"))
            paid_once = provider.texts
            assert set(paid_once) == set(texts.values())
            assert set(paid_once.values()) == {1}

            provider.asked.clear()
            in_calls = [chance.randint(1, 7) for _ in range(7)]
            for calls in in_calls:
                provider.heard = kill_after(provider.calls + calls, provider, driver)
                kept, before = texts_kept(cache, texts), provider.texts
                assert driver.run(cache) == "", "not killed"
                assert not set(provider.texts - before) & kept, "asked again for what was on disk"
            provider.heard = lambda asked: None
            in_stages = ["embed", "index 0", "index 1", "index 2"]
            for stage in in_stages:
                kept, before = texts_kept(cache, texts), provider.texts
                assert driver.run(cache, stage) == "", "not killed"
                assert not set(provider.texts - before) & kept, "asked again for what was on disk"
            finished = done(driver.run(cache))

    kills = len(in_calls) + len(in_stages)
    assert kills >= 8
    assert finished.name == undisturbed.name
    assert files_of(finished) == files_of(undisturbed)
    assert leftovers(cache) == []
    assert set(provider.texts) == set(paid_once)
    assert (provider.texts - paid_once).total() <= kills * NOT_KEPT


def test_local_ingestion_killed_at_every_stage(tmp_path: Path) -> None:
    chance = random.Random(7)
    cache = tmp_path / "killed"
    with contextlib.closing(Driver()) as driver:
        undisturbed = done(driver.run(tmp_path / "undisturbed"))
        for stage in ("read 200", "fit 0", "fit 1", "embed", "index 0", "index 1", "index 2"):
            assert driver.run(cache, stage) == "", "not killed"
        for _ in range(3):  # while it publishes; it may be faster
            driver.run(cache, "index 2", chance.uniform(0.0005, 0.01))
        finished = done(driver.run(cache))
    assert finished.name == undisturbed.name
    assert files_of(finished) == files_of(undisturbed)
    assert leftovers(cache) == []
