"""Asking on the command line: from own files to answers, one question or many."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command import Run, Told, apart
from provider import Asked, Provider
from rag_lab import cli
from rag_lab.asking import LabQueryEngine
from rag_lab.asking.batch import AT_ONCE
from rag_lab.errors import ModelError
from rag_lab.records import Answer
from rag_lab.settings import PathSettings

STATUTE = """UNDANG-UNDANG REPUBLIK INDONESIA
NOMOR 99 TAHUN 2031 TENTANG PASAR TERAPUNG
Menimbang :
a. bahwa pasar terapung perlu diatur;
MEMUTUSKAN:
Menetapkan : UNDANG-UNDANG TENTANG PASAR TERAPUNG.
BAB I KETENTUAN UMUM
Pasal 1
Dalam Undang-Undang ini yang dimaksud dengan:
1. Pasar terapung adalah tempat jual beli di atas perahu.
2. Pedagang adalah orang yang menjual barang dari perahu.
BAB II PERIZINAN
Pasal 2
(1) Setiap pedagang wajib memiliki izin dari bupati.
(2) Izin berlaku selama tujuh tahun.
Pasal 3
Pedagang yang tidak memiliki izin dikenai denda sebesar sembilan juta rupiah.
"""


def test_add_ingest_query_on_own_rows(run: Run, rows: Path) -> None:
    added = run("data", "add", "ships", rows, "--json")
    assert added.status == 0
    assert (added.data["name"], added.data["read"], added.data["kept"]) == ("ships", 3, 2)
    assert "rows.jsonl:3" in added.data["rejected"][0]
    ingested = run("ingest", "ships", "--json")
    assert ingested.status == 0
    (report,) = ingested.data
    assert (report["nodes"], report["read"], report["complete"]) == (2, 3, True)
    assert ingested.err == ""
    answer = run("query", "ships", "What is the anchor made of?", "--json", "--show-context")
    assert answer.data["cited_ids"] == ["a"]
    assert answer.data["passages"][0]["document_id"] == "a"
    assert "passages" not in run("query", "ships", "What is the anchor made of?", "--json").data


def test_for_people_it_is_told_in_words(run: Run, rows: Path) -> None:
    assert "3 read = 2 kept + 1 rejected" in run("data", "add", "ships", rows).out
    told = run("ingest", "ships")
    assert "2 nodes = 2 vectors = 2 keyword entries, complete" in told.out
    assert "empty text" in told.out
    assert "rejected.jsonl" in told.out
    answer = run("query", "ships", "What is the anchor made of?", "--show-context")
    assert "The anchor is made of iron. [A]" in answer.out
    assert "extractive: sentences quoted from the corpus, not written by a model" in answer.out
    assert "keyword" in answer.out
    assert "dense" in answer.out
    assert "refused" in run("query", "ships", "Who was Napoleon Bonaparte?").out


def test_query_ingests_what_was_never_ingested(run: Run, rows: Path) -> None:
    run("data", "add", "ships", rows)
    told = run("query", "ships", "What is the anchor made of?", "--json")
    assert told.status == 0
    assert told.data["kind"] == "extractive"


def test_a_statute_of_ones_own(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "uu-2031-99.txt"
    file.write_text(STATUTE, encoding="utf-8")
    added = run("data", "add", "terapung", file, "--reader", "law-text", "--json")
    assert (added.status, added.data["kept"]) == (0, 3)
    (report,) = run("ingest", "terapung", "--json").data
    assert report["complete"]
    assert report["nodes"] > 3  # the definitions are nodes of their own
    answer = run("query", "terapung", "Berapa lama izin pedagang berlaku?", "--json").data
    assert "tujuh tahun" in answer["text"]
    assert answer["cited_ids"][0].endswith("pasal-2")
    shown = run("data", "show", "terapung", answer["cited_ids"][0]).data
    assert "Izin berlaku selama tujuh tahun" in shown["text"]


@pytest.fixture
def ships(run: Run, rows: Path) -> str:
    run("data", "add", "ships", rows)
    run("ingest", "ships", "--json")
    return "ships"


def test_questions_from_a_text_file(run: Run, ships: str, tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("What is the anchor made of?\n\nWhat does the lantern burn?\n", "utf-8")
    rows = run("query", ships, "--file", file, "--json").rows
    assert [(row["id"], row["cited_ids"]) for row in rows] == [("1", ["a"]), ("3", ["b"])]
    assert "The lantern burns oil. [B]" in run("query", ships, "--file", file).out


def test_questions_from_json_lines(run: Run, ships: str, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    asked = [{"id": "q7", "text": "What does the lantern burn?"}, {"question": "The anchor?"}]
    file.write_text("\n".join(map(json.dumps, asked)), "utf-8")
    told = run("query", ships, "--file", file, "--json")
    assert [(row["id"], row["question"]) for row in told.rows] == [
        ("q7", "What does the lantern burn?"),
        ("2", "The anchor?"),
    ]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Twelve questions, one a line."""
    file = tmp_path / "questions.txt"
    lines = [f"What is anchor number {number} made of?" for number in range(1, 13)]
    file.write_text("\n".join(lines), "utf-8")
    return file


class Engine:
    """Stands in for the engine's `ask`: counts, and fails for what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.fails: Callable[[str], bool] = lambda question: False
        ask = LabQueryEngine.ask

        async def counted(engine: LabQueryEngine, question: str) -> Answer:
            self.asked.append(question)
            if self.fails(question):
                raise ModelError("the model refused")
            return await ask(engine, question)

        monkeypatch.setattr(LabQueryEngine, "ask", counted)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(monkeypatch)


def ids(rows: list[dict[str, str]]) -> list[str]:
    return [row["id"] for row in rows]


def test_answers_are_kept_and_only_failed_questions_asked_again(
    run: Run, ships: str, questions: Path, engine: Engine
) -> None:
    command = ("query", ships, "--file", questions, "--out", questions.with_name("out.jsonl"))
    engine.fails = lambda question: "number 3 " in question
    first = run(*command, "--json")
    assert first.status == 2
    assert ids(first.rows) == [str(number) for number in range(1, 13)]
    assert first.rows[2]["error"] == "the model refused"
    assert first.err == "failed: the model refused\n"
    engine.asked.clear()
    engine.fails = lambda question: False
    second = run(*command, "--json")
    assert second.status == 0
    assert engine.asked == ["What is anchor number 3 made of?"]
    assert "11 answers are in " in second.err
    assert [row for row in second.rows if row["id"] != "3"] == [
        row for row in first.rows if row["id"] != "3"
    ]
    third = run(*command)
    assert engine.asked == ["What is anchor number 3 made of?"]
    assert "\n3  What is anchor number 3 made of?\n" in third.out


def test_other_settings_are_another_answer(
    run: Run, ships: str, questions: Path, engine: Engine
) -> None:
    command = ("query", ships, "--file", questions, "--out", questions.with_name("out.jsonl"))
    for more in ((), ("--top-k", 2), ("--concurrency", 3)):
        run(*command, *more, "--json")
    assert set(Counter(engine.asked).values()) == {2}  # how fast is no part of what


def test_without_out_answers_are_kept_until_there_are_all(
    run: Run, ships: str, questions: Path, engine: Engine, paths: PathSettings
) -> None:
    engine.fails = lambda question: "number 3 " in question
    assert run("query", ships, "--file", questions, "--json").status == 2
    engine.fails = lambda question: False
    assert len(run("query", ships, "--file", questions, "--json").rows) == 12
    assert len(engine.asked) == 13
    assert [*(paths.cache / "answers").glob("*.jsonl")] == []
    assert run("query", ships, "--file", questions, "--json").err == ""
    assert len(engine.asked) == 25


def test_a_line_that_is_no_question_is_told(run: Run, ships: str, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"text": "The anchor?"}\n{\n{"text": "The lantern?"}\n', "utf-8")
    told = run("query", ships, "--file", file, "--json")
    assert told.status == 2
    assert ids(told.rows) == ["1", "questions.jsonl:2", "3"]
    assert "failed: questions.jsonl:2: malformed JSON" in told.err


def test_what_is_no_log_of_answers_is_not_written_to(run: Run, ships: str, questions: Path) -> None:
    before = questions.read_bytes()
    told = run("query", ships, "--file", questions, "--out", questions)
    assert told.status == 1
    assert "holds something else than answers" in told.err
    assert questions.read_bytes() == before


def test_out_goes_with_a_file(run: Run, ships: str, tmp_path: Path) -> None:
    told = run("query", ships, "The anchor?", "--out", tmp_path / "out.jsonl")
    assert told.status == 2
    assert "--out keeps the answers to a --file" in told.err


@pytest.mark.parametrize(("given", "expected"), [((), AT_ONCE), (("--concurrency", 3), 3)])
def test_so_many_questions_are_asked_at_once(
    run: Run,
    ships: str,
    questions: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[object, ...],
    expected: int,
) -> None:
    from rag_lab.asking import batch

    seen = []
    ask_all = batch.ask_all

    def watched(*args: object, **options: object) -> object:
        seen.append(options["at_once"])
        return ask_all(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(batch, "ask_all", watched)
    run("query", ships, "--file", questions, *given, "--json")
    assert seen == [expected]


class Asking:
    """`rag-lab query --file --out` in a process of its own, at a chat model that can end it."""

    def __init__(self, corpus: str, questions: Path, provider: Provider) -> None:
        self.out = questions.with_name("answers.jsonl")
        self.provider = provider
        self._command = [sys.executable, "-m", "rag_lab.cli", "query", corpus, "--json"]
        self._command += ["--file", str(questions), "--out", str(self.out)]

    def run(self, stop: signal.Signals | None = None, at_call: int = 0, calls: int = 3) -> Told:
        """What it came to; a signal is sent before a call is answered."""
        environment = os.environ | self.provider.environment("LLM")
        self.provider.asked.clear()
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*self._command, "--concurrency", str(calls)],
            env=environment,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )

        def heard(asked: Asked) -> None:
            if stop is not None and len(self.provider.asked) == at_call:
                process.send_signal(stop)

        self.provider.heard = heard
        out, err = process.communicate(timeout=120)
        return Told(process.returncode, out, err)

    @property
    def asked(self) -> Counter[str]:
        """How often each question was asked in the last run, by its number."""
        prompts = [asked.body["messages"][-1]["content"] for asked in self.provider.asked]
        return Counter(prompt.split("anchor number ")[1].split()[0] for prompt in prompts)

    def kept(self) -> set[str]:
        """The ids of the whole lines on disk."""
        whole = self.out.read_bytes().split(b"\n")[:-1] if self.out.exists() else []
        return {json.loads(line)["id"] for line in whole}


@pytest.fixture
def asking(ships: str, questions: Path) -> Iterator[Asking]:
    with Provider() as provider:
        yield Asking(ships, questions, provider)


def test_an_outage_is_waited_for(asking: Asking) -> None:
    asking.provider.faults.extend([503] * 24)
    told = asking.run(calls=12)
    assert told.status == 0
    assert {(row["kind"], *row["degraded"]) for row in told.rows} == {("generated",)}


def test_killed_again_and_again_nothing_answered_is_asked_twice(asking: Asking) -> None:
    for at_call in (2, 5, 4):
        before = asking.kept()
        told = asking.run(signal.SIGKILL, at_call)
        assert told.status == -signal.SIGKILL
        assert not before & set(asking.asked), "asked again for what was on disk"
        assert set(ids(told.rows)) <= asking.kept(), "told before it was on disk"
    torn = asking.out.read_bytes()
    asking.out.write_bytes(torn + torn.splitlines()[0][:50])
    before = asking.kept()
    last = asking.run()
    assert last.status == 0
    assert "was cut off while it was written" in last.err
    everything = {str(number) for number in range(1, 13)}
    assert set(asking.asked) == everything - before
    assert set(asking.asked.values()) == {1}
    assert ids(last.rows) == sorted(everything, key=int)
    assert asking.kept() == everything


def test_ctrl_c_says_how_far_it_is_and_how_to_go_on(asking: Asking) -> None:
    told = asking.run(signal.SIGINT, at_call=6)
    assert told.status == 130
    kept = asking.kept()
    assert 2 <= len(kept) < 12
    assert f"stopped: {len(kept)} of 12 questions are answered, and kept in " in told.err
    assert "The same command goes on from there." in told.err
    assert "Traceback" not in told.err
    assert asking.run().status == 0
    assert not kept & set(asking.asked)
    assert len(asking.kept()) == 12


def test_questions_typed_one_by_one(run: Run, ships: str) -> None:
    typed = "What is the anchor made of?\nWhat does the lantern burn?\n\nnot read\n"
    rows = run("query", ships, "--json", typed=typed).rows
    assert [row["cited_ids"] for row in rows] == [["a"], ["b"]]


def test_a_query_leaves_no_file_open(ships: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["rag-lab", "query", ships, "What is the anchor made of?"])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with contextlib.suppress(SystemExit):
            cli.main()
        gc.collect()
    assert [str(warning.message) for warning in seen] == []


def test_top_k_is_how_many_passages_an_answer_has(run: Run, ships: str) -> None:
    told = run("query", ships, "anchor lantern", "--top-k", "1", "--show-context", "--json")
    assert len(told.data["passages"]) == 1


def test_in_a_process_of_its_own(rows: Path) -> None:
    added = apart("data", "add", "ships", str(rows), "--json")
    assert (added.status, added.err, added.data["kept"]) == (0, "", 2)
    asked = apart("query", "ships", "--json", typed="What is the anchor made of?\n")
    assert (asked.status, asked.err) == (0, "")
    assert asked.rows[0]["cited_ids"] == ["a"]
    missing = apart("ingest", "nonsense")
    assert (missing.status, missing.out, len(missing.err.splitlines())) == (1, "", 1)


def test_explain_tells_names_parts_ranks_and_stages(run: Run, rows: Path) -> None:
    run("data", "add", "ships", rows)
    told = run("query", "ships", "What is the anchor made of, and who was Napoleon?", "--explain")
    assert "1 of 2 parts answered" in told.out
    for heading in ("parts", "passages, in their fused order", "stages"):
        assert f"\n{heading}" in told.out
    assert "1 (1.000)" in told.out or "1 (" in told.out
    assert "synthesise" in told.out
    assert "█" in told.out


def test_explain_tells_what_was_named_and_what_does_not_exist(run: Run, tmp_path: Path) -> None:
    statute = tmp_path / "uu-2031-99.txt"
    statute.write_text(STATUTE, encoding="utf-8")
    run("data", "add", "floating", statute, "--reader", "law-text")
    told = run("query", "floating", "Apa isi Pasal 2 dan Pasal 9 UU 99/2031?", "--explain")
    assert "note: Pasal 2 uu-2031-99: 'Pasal 2 dan Pasal 9 UU 99/2031'" in told.out
    assert "tidak ada Pasal 9" in told.out
    assert "named" in told.out
    refused = run("query", "floating", "Apa isi Pasal 9 UU 99/2031?", "--explain")
    assert "no passages" in refused.out
    assert "(refused — " in refused.out


def test_explained_as_data_has_ranks(run: Run, rows: Path) -> None:
    run("data", "add", "ships", rows)
    told = run("query", "ships", "What is the anchor made of?", "--explain", "--json")
    assert told.data["passages"][0]["ranks"] == {"dense": 2, "keyword": 1}


def test_a_question_is_left_whole_on_demand(run: Run, rows: Path) -> None:
    run("data", "add", "ships", rows)
    question = "What is the anchor made of, and who was Napoleon?"
    assert len(run("query", "ships", question, "--json").data["parts"]) == 2
    assert run("query", "ships", question, "--json", "--decompose", "off").data["parts"] == []
