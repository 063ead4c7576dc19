"""Killed with SIGKILL at any point and run again: nothing is lost, nothing is paid for twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
IN_FLIGHT = 8 * BATCH
"""Texts that may be on their way at once: eight calls of a batch each."""

DRIVER = """
import asyncio, os, sys
import rag_lab.index.store, rag_lab.models.remote
from rag_lab.corpora import load_corpus
from rag_lab.index import ingest
from rag_lab.models import build_models
from rag_lab.settings import load_settings

def tell(progress):
    print("at", progress.stage, progress.done, flush=True)

def work(cache):
    settings = load_settings(paths={"cache": cache})
    corpus = load_corpus("anime", settings.paths)
    report = asyncio.run(ingest(corpus, build_models(settings), settings, progress=tell))
    print("done", report.complete, report.folder, flush=True)

for line in sys.stdin:  # imported once; each ingestion is a process of its own
    child = os.fork()
    if not child:
        work(line.strip())
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

    def lines(self, cache: Path) -> Iterator[str]:
        """What one ingestion says, until its process is over."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{cache}\n")
        self._process.stdin.flush()
        for line in map(str.strip, self._process.stdout):
            if line.startswith("pid "):
                self._child = int(line.removeprefix("pid "))
            elif line == "over":
                return
            else:
                yield line
        raise AssertionError("the driver ended")

    def kill(self) -> None:
        """Ends the running ingestion at once, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)

    def run(self, cache: Path, kill_at: Callable[[str], bool] = lambda line: False) -> str:
        """The last thing an ingestion says; it is killed when `kill_at` says so of a line."""
        last = ""
        for last in self.lines(cache):
            if kill_at(last):
                self.kill()
        return last

    def close(self) -> None:
        """Ends the driver."""
        self._process.communicate(timeout=30)


@pytest.fixture
def driver() -> Iterator[Driver]:
    made = Driver()
    yield made
    made.close()


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
    with contextlib.closing(sqlite3.connect(cache / "vectors.sqlite")) as connection:
        try:
            rows = connection.execute("SELECT key FROM vectors").fetchall()
        except sqlite3.OperationalError:  # killed before there was a table
            return set()
    return {texts[key] for (key,) in rows}


def test_remote_ingestion_killed_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(20240607)
    cache = tmp_path / "killed"
    with Provider() as provider:
        for name, value in provider.environment(BATCH_SIZE=str(BATCH), MAX_RETRIES="0").items():
            monkeypatch.setenv(name, value)
        driver, model = Driver(), build_models(load_settings()).embedder.identity
        undisturbed = done(driver.run(tmp_path / "undisturbed"))
        paid_once = provider.texts
        texts = texts_of_anime(model)
        assert set(paid_once) == set(texts.values())
        assert set(paid_once.values()) == {1}

        kills = 0
        provider.asked.clear()
        for calls in [*(chance.randint(1, 7) for _ in range(7)), 0, 0, 0]:
            kept = texts_kept(cache, texts) if cache.exists() else set()
            before = provider.texts
            if calls:  # while that many calls are on their way
                provider.heard = kill_after(provider.calls + calls, provider, driver)
                last = driver.run(cache)
            else:  # while it builds and publishes
                provider.heard = lambda asked: None
                stage = chance.choice(["at index 0", "at index 1", "at index 2"])
                last = driver.run(cache, kill_at=lambda line, s=stage: line == s)
            kills += not last.startswith("done")
            assert not set(provider.texts - before) & kept, "asked again for what was on disk"
        provider.heard = lambda asked: None
        finished = done(driver.run(cache))
        driver.close()

    assert kills >= 8
    assert finished.name == undisturbed.name
    assert files_of(finished) == files_of(undisturbed)
    assert leftovers(cache) == []
    assert set(provider.texts) == set(paid_once)
    assert (provider.texts - paid_once).total() <= kills * IN_FLIGHT


def texts_of_anime(model: str) -> dict[bytes, str]:
    """Every embedded text of the corpus as the provider gets it, by its key in the cache."""
    nodes = (n for d in load_corpus("anime").documents for n in split_document(d, 6_000))
    return {
        cache_key(model, None, "document", node.embedded_text): node.embedded_text.replace(
            "\n", " "
        )
        for node in nodes
    }


def kill_after(calls: int, provider: Provider, driver: Driver) -> Callable[[Asked], None]:
    """Kills the client when the provider has received so many calls, before it answers."""

    def heard(asked: Asked) -> None:
        if provider.calls >= calls:
            driver.kill()

    return heard


def test_local_ingestion_killed_at_every_stage(tmp_path: Path, driver: Driver) -> None:
    chance = random.Random(7)
    cache = tmp_path / "killed"
    undisturbed = done(driver.run(tmp_path / "undisturbed"))
    stages = ["at read 200", "at fit 0", "at fit 1", "at embed", "at index 1", "at index 2"]
    kills = 0
    for stage in stages:
        pause_s = chance.random() * 0.02

        def kill_at(line: str, stage: str = stage, pause_s: float = pause_s) -> bool:
            if not line.startswith(stage):
                return False
            time.sleep(pause_s)
            return True

        kills += not driver.run(cache, kill_at).startswith("done")
    finished = done(driver.run(cache))
    assert kills >= 5
    assert finished.name == undisturbed.name
    assert files_of(finished) == files_of(undisturbed)
    assert leftovers(cache) == []
