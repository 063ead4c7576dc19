"""What an ingestion does, costs and proves; with the local embedder and with a remote one."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from provider import Provider
from rag_lab.corpora import Corpus, add_corpus, load_corpus
from rag_lab.errors import CorpusError, IndexStateError, ModelError, RecordError
from rag_lab.index import Progress, ingest, open_index
from rag_lab.index.keyword import KeywordIndex
from rag_lab.index.report import IngestReport
from rag_lab.models import Models, build_models
from rag_lab.records import Usage
from rag_lab.settings import PathSettings, load_settings
from scripted import Scripted
from small import FRUITS, corpus_of, files_of, food


async def run(corpus: Corpus, **options: bool) -> IngestReport:
    settings = load_settings()
    return await ingest(corpus, build_models(settings), settings, **options)


CHANGED = {**FRUITS, "apple": ("Apple", "The apple is now a green fruit of cool orchards.")}
ADDED = {**FRUITS, "endive": ("Endive", "The endive is a bitter leaf of cool fruit orchards.")}
REMOVED = {key: FRUITS[key] for key in ("apple", "banana", "durian")}


async def test_the_report_adds_up() -> None:
    report = await run(food())
    assert (report.nodes, report.vectors, report.keyword_entries) == (4, 4, 4)
    assert (report.count.read, report.count.kept, report.count.rejected) == (4, 4, 0)
    assert report.embedded + report.from_cache == report.nodes
    assert report.complete
    assert not report.up_to_date
    assert report.dimensions == 3  # the rank of four documents
    assert json.loads(json.dumps(report.to_dict()))["read"] == 4
    assert "4 nodes = 4 vectors = 4 keyword entries, complete" in str(report)


async def test_a_second_run_is_free(remote: Provider) -> None:
    first = await run(food())
    assert (first.embedded, first.calls, remote.calls) == (4, 2, 2)
    second = await run(food())
    assert second.up_to_date
    assert (second.embedded, second.calls, remote.calls) == (0, 0, 2)
    assert second.complete
    assert (second.snapshot, second.nodes, second.count) == (first.snapshot, 4, first.count)


async def test_deleting_the_index_costs_no_vector(remote: Provider) -> None:
    report = await run(food())
    manifest = Path(report.folder) / "manifest.json"
    manifest.unlink()
    again = await run(food())
    assert (again.embedded, again.from_cache, remote.calls) == (0, 4, 2)
    assert again.snapshot == report.snapshot


@pytest.mark.parametrize(("rows", "asked"), [(CHANGED, 1), (ADDED, 1), (REMOVED, 0)])
async def test_a_change_costs_its_own_vector(
    rows: dict[str, tuple[str, str]], asked: int, remote: Provider
) -> None:
    await run(food())
    before = remote.texts
    report = await run(corpus_of(rows))
    assert sum((remote.texts - before).values()) == report.embedded == asked
    assert report.nodes == len(rows)
    assert report.complete


@pytest.mark.parametrize(("rows", "asked"), [(CHANGED, 1), (ADDED, 1), (REMOVED, 0)])
async def test_a_change_costs_its_own_vector_with_the_kept_fit(
    rows: dict[str, tuple[str, str]], asked: int
) -> None:
    first = await run(food())
    report = await run(corpus_of(rows))
    assert (report.embedded, report.embedder) == (asked, first.embedder)


async def test_texts_that_are_alike_are_asked_once(remote: Provider) -> None:
    rows = dict.fromkeys(("a", "b", "c"), ("Twin", "The same text."))
    dry = await run(corpus_of(rows), dry_run=True)
    report = await run(corpus_of(rows))
    assert report.nodes == report.vectors == 3
    assert list(remote.texts.values()) == [1]
    assert (report.embedded, dry.nodes) == (1, 3)


async def test_a_large_drift_is_noted_and_a_larger_one_fits_anew() -> None:
    first = await run(food())
    drifted = await run(corpus_of(ADDED))  # one of five nodes is new: 20 %
    assert drifted.embedder == first.embedder
    assert any("20% of the nodes are new" in note and "--refit" in note for note in drifted.notes)
    others = {key: ("Other", f"Text of {key} about ships and harbours.") for key in "uvwxyz"}
    anew = await run(corpus_of({**FRUITS, **others}))
    assert anew.embedder != first.embedder
    assert any("60% of the nodes are new" in note for note in anew.notes)


async def test_refit_fits_anew() -> None:
    await run(food())
    drifted = await run(corpus_of(ADDED))
    refitted = await run(corpus_of(ADDED), refit=True)
    assert refitted.embedder != drifted.embedder
    assert refitted.embedded == 5
    assert not refitted.notes
    index = open_index(corpus_of(ADDED))
    assert index.id == refitted.snapshot
    index.close()


async def test_a_refit_to_the_same_fit_changes_nothing_and_closes_its_files() -> None:
    first = await run(food())
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        same = await run(food(), refit=True)
        gc.collect()
    assert (same.snapshot, same.embedder, same.embedded) == (first.snapshot, first.embedder, 0)
    assert [str(warning.message) for warning in seen] == []


async def test_a_dry_run_calls_no_model_and_writes_nothing(
    remote: Provider, paths: PathSettings
) -> None:
    report = await run(food(), dry_run=True)
    assert (report.dry_run, report.nodes, report.embedded, report.calls) == (True, 4, 4, 2)
    assert remote.calls == 0
    assert files_of(paths.cache_folder) == {}
    await run(food())
    before, calls = files_of(paths.cache_folder / "indexes"), remote.calls
    again = await run(corpus_of(ADDED), dry_run=True)
    assert (again.embedded, again.from_cache, again.calls) == (1, 4, 1)
    assert (files_of(paths.cache_folder / "indexes"), remote.calls) == (before, calls)


async def test_progress_reaches_the_end_of_every_stage() -> None:
    seen: list[Progress] = []
    await ingest(food(), settings=load_settings(), progress=seen.append)
    last = {progress.stage: progress for progress in seen}
    assert list(last) == ["read", "fit", "embed", "index"]
    assert all(progress.done == progress.total for progress in last.values())


@pytest.fixture
def faulty(tmp_path: Path) -> Corpus:
    rows = [
        '{"id": "good", "title": "Good", "text": "A usable record about fruit."}',
        '{"id": "cut", "text": "no end',
        '{"title": "No id", "text": "Nameless."}',
        '{"id": "good", "text": "The same id again."}',
        '{"id": "empty", "text": "  "}',
        '{"id": "fine", "title": "Fine", "text": "Another usable record about roots."}',
    ]
    file = tmp_path / "faulty.jsonl"
    file.write_text("\n".join(rows), encoding="utf-8")
    return add_corpus("faulty", "jsonl", [file])[0]


async def test_rejected_records_are_listed_beside_the_index(faulty: Corpus) -> None:
    report = await run(faulty)
    assert (report.count.read, report.count.kept, report.count.rejected) == (6, 2, 4)
    assert [rejection.line for rejection in report.rejected] == [2, 3, 4, 5]
    rows = (Path(report.folder) / "rejected.jsonl").read_text("utf-8").splitlines()
    listed = [json.loads(row) for row in rows]
    assert [row["line"] for row in listed] == [2, 3, 4, 5]
    assert "duplicate id" in listed[2]["reason"]
    again = await run(faulty)
    assert again.up_to_date
    assert again.rejected == report.rejected


async def test_strict_stops_at_the_first_rejected_record(faulty: Corpus) -> None:
    with pytest.raises(RecordError, match=r"faulty\.jsonl:2: .*--strict"):
        await run(faulty, strict=True)


async def test_strict_holds_for_a_corpus_that_was_ingested_before(faulty: Corpus) -> None:
    await run(faulty)
    with pytest.raises(RecordError, match=r"faulty\.jsonl:2"):
        await run(faulty, strict=True)


async def test_a_corpus_without_a_usable_record_is_an_error() -> None:
    with pytest.raises(CorpusError, match="no usable document"):
        await run(corpus_of({"a": ("", " ")}))


async def test_a_failure_keeps_what_was_paid_for(remote: Provider) -> None:
    rows = {f"d{n}": (f"Title {n}", f"Text number {n}.") for n in range(10)}
    remote.faults.extend(["", 401, ""])
    with pytest.raises(ModelError, match="RAG_LAB_EMBED_API_KEY"):
        await run(corpus_of(rows))
    asked = remote.texts
    assert sum(asked.values()) == 10  # what was on its way when one call failed was not cut off
    report = await run(corpus_of(rows))
    assert report.complete
    assert sum((remote.texts - asked).values()) == report.embedded == 2


async def test_the_keyword_index_is_made_while_the_provider_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved, save = threading.Event(), KeywordIndex.save

    def save_and_tell(index: KeywordIndex, folder: Path) -> None:
        save(index, folder)
        saved.set()

    async def answer_once_it_is_there(texts: Sequence[str]) -> None:
        assert await asyncio.to_thread(saved.wait, 30)

    monkeypatch.setattr(KeywordIndex, "save", save_and_tell)
    report = await ingest(food(), Models(Scripted(before_answer=answer_once_it_is_there)))
    assert report.complete


async def test_a_keyword_index_that_cannot_be_kept_ends_the_ingestion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(index: KeywordIndex, folder: Path) -> None:
        raise OSError("no space left on device")

    async def never(texts: Sequence[str]) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(KeywordIndex, "save", fail)
        with pytest.raises(OSError, match="no space left"):
            await ingest(food(), Models(Scripted(before_answer=never)))
    with pytest.raises(IndexStateError):
        open_index(food(), Models(Scripted()))
    assert (await ingest(food(), Models(Scripted()))).complete


DURIAN = "Durian\nThe durian is a spiny fruit with a smell that fills whole markets."


async def test_a_text_that_is_refused_leaves_the_others_searchable() -> None:
    embedder = Scripted(refused=[DURIAN])
    models = Models(embedder=embedder)
    report = await ingest(food(), models)
    assert [(node.node_id, node.reason) for node in report.failed] == [
        ("durian", "refused by the script")
    ]
    assert (report.nodes, report.vectors, report.keyword_entries) == (4, 3, 4)
    assert (report.embedded, report.from_cache) == (3, 0)
    assert (report.complete, report.problems) == (False, ())
    assert "4 nodes = 3 vectors + 1 without one = 4 keyword entries, INCOMPLETE" in str(report)
    assert any("rag-lab ingest --retry-failed" in note for note in report.notes)
    with closing(open_index(food(), models)) as index:
        place = index.places["durian"]
        dense = await index.search_vector(embedder.vector(DURIAN), 10)
        assert sorted(found for found, _ in dense) == [at for at in range(4) if at != place]
        assert (await index.search_keywords("spiny durian", 1))[0][0] == place


async def test_a_refused_text_is_sent_again_only_on_demand() -> None:
    models = Models(embedder=Scripted(refused=[DURIAN]))
    first = await ingest(food(), models)
    well = Scripted()
    models = Models(embedder=well)
    again = await ingest(food(), models)
    assert (again.up_to_date, again.failed) == (True, first.failed)
    assert again.notes == first.notes
    changed = await ingest(corpus_of(ADDED), models)
    assert [text for text in well.asked if "Durian" in text] == []
    assert changed.failed == first.failed
    dry = await ingest(corpus_of(ADDED), models, dry_run=True)
    assert (dry.embedded, dry.failed) == (0, first.failed)
    mended = await ingest(food(), models, retry_failed=True)
    assert well.asked[DURIAN] == 1
    assert (mended.complete, mended.up_to_date, mended.embedded) == (True, False, 1)
    assert mended.snapshot == first.snapshot
    assert (await ingest(food(), models, retry_failed=True)).up_to_date
    with closing(open_index(food(), models)) as index:
        assert len(await index.search_vector(well.vector(DURIAN), 10)) == 4


async def test_trying_again_in_vain_changes_nothing() -> None:
    models = Models(embedder=Scripted(refused=[DURIAN]))
    first = await ingest(food(), models)
    before = files_of(Path(first.folder))
    again = await ingest(food(), models, retry_failed=True)
    assert (again.failed, again.embedded) == (first.failed, 0)
    assert files_of(Path(again.folder)) == before


async def test_the_report_tells_what_was_used() -> None:
    report = await ingest(food(), Models(embedder=Scripted(items=2)))
    assert report.usage == Usage(calls=2, texts=4, prompt_tokens=40)
    assert report.calls == 2
    assert report.to_dict()["usage"]["texts"] == 4
    again = await ingest(food(), Models(embedder=Scripted(items=2)))
    assert again.usage == Usage()


async def test_two_ingestions_in_one_process_share_the_work(remote: Provider) -> None:
    reports = await asyncio.gather(run(food()), run(food()), run(corpus_of(ADDED)))
    assert all(report.complete for report in reports)
    assert set(remote.texts.values()) == {1}


def test_two_processes_may_ingest_at_once(paths: PathSettings) -> None:
    command = [sys.executable, "-m", "rag_lab.cli", "ingest", "anime", "--json"]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    ended = [process.communicate(timeout=100) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    reports = [json.loads(out)[0] for out, _ in ended]
    assert all(report["complete"] for report in reports)
    assert len({report["snapshot"] for report in reports}) == 1
    assert sum(report["up_to_date"] for report in reports) == 1
    index = open_index(load_corpus("anime"))
    assert len(index) == reports[0]["nodes"]
    index.close()
