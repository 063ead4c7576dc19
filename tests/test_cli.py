"""The command line as a user meets it: help, exit statuses, one-line errors, corpora."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from command import Run, Told
from provider import KEY, Provider
from rag_lab import __version__
from rag_lab.settings import PathSettings
from small import files_of

COMMANDS = [
    [],
    ["ingest"],
    ["query"],
    ["report"],
    ["doctor"],
    ["data"],
    ["data", "list"],
    ["data", "add"],
    ["data", "show"],
    ["bench"],
    ["bench", "quality"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str], run: Run) -> None:
    told = run(*command, "--help")
    assert told.status == 0
    usage = told.out.splitlines()[0]
    assert usage.startswith("Usage: ")
    assert f" {' '.join([*command, '[OPTIONS]'])}" in usage
    assert told.out == run(*command, "-h").out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['rag-lab', '--help']\nfrom rag_lab.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    heavy = {"llama_index", "numpy", "faiss", "openai", "pandas", "scipy", "pydantic", "papermill"}
    assert "typer" in loaded
    assert not loaded & heavy


def test_version(run: Run) -> None:
    assert run("--version") == Told(0, f"rag-lab {__version__}\n", "")


def test_a_dry_run_leaves_no_trace(run: Run, rows: Path, paths: PathSettings) -> None:
    run("data", "add", "ships", rows)
    before = files_of(paths.cache_folder)
    told = run("ingest", "ships", "--dry-run")
    assert told.status == 0
    assert "No call was made" in told.out
    assert files_of(paths.cache_folder) == before


ERRORS: list[tuple[list[str], str]] = [
    (["ingest", "nonsense"], "there is no corpus 'nonsense'; known: anime, law_id"),
    (["query", "nonsense", "?"], "there is no corpus 'nonsense'"),
    (["data", "add", "Bad Name", "x.jsonl"], "Bad Name"),
    (["data", "add", "good", "absent.jsonl"], "absent.jsonl"),
    (["data", "add", "good", "absent.jsonl", "--reader", "nonsense"], "nonsense"),
    (["bench", "quality", "--only", "nonsense"], "no set 'nonsense'"),
]


@pytest.mark.parametrize(("command", "message"), ERRORS, ids=lambda value: " ".join(value)[:40])
def test_an_expected_error_is_one_line(command: list[str], message: str, run: Run) -> None:
    told = run(*command)
    assert told.status == 1
    assert told.err.startswith("error: ")
    assert message in told.err
    assert len(told.err.splitlines()) == 1


def test_a_rejected_record_stops_a_strict_ingestion(run: Run, rows: Path) -> None:
    run("data", "add", "ships", rows)
    told = run("ingest", "ships", "--strict")
    assert told.status == 1
    assert "rows.jsonl:3 (c): empty text" in told.err


def test_an_incomplete_index_is_status_two(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    lines = ['{"id": "a", "text": "Some words here."}', '{"id": "b", "text": "?!"}']
    file.write_text("\n".join(lines), encoding="utf-8")
    run("data", "add", "ships", file)
    told = run("ingest", "ships")
    assert told.status == 2
    assert "INCOMPLETE" in told.out
    assert "failed: b: zero vector" in told.out


@pytest.mark.parametrize(
    "command",
    [
        ["query", "anime", "a question", "--file", "x"],
        ["query"],
        ["ingest"],
        ["query", "anime", "?", "--top-k", "0"],
        ["nonsense"],
        ["data", "show", "anime", "no-such-document"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_two(command: list[str], run: Run) -> None:
    told = run(*command)
    assert told.status == 2
    assert "Usage: " in told.err or "Usage: " in told.out
    assert "Traceback" not in told.err


def test_a_failing_model_is_one_line_without_the_key(
    run: Run, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("data", "add", "ships", rows)
    with Provider() as provider:
        provider.faults.append(401)
        for name, value in provider.environment(MAX_RETRIES="0").items():
            monkeypatch.setenv(name, value)
        told = run("ingest", "ships")
        asked = run("query", "ships", "anchor?")
    assert (told.status, asked.status) == (1, 1)
    assert "refused the key (HTTP 401). Check RAG_LAB_EMBED_API_KEY" in told.err
    assert "Run: rag-lab ingest ships" in asked.err
    assert KEY not in told.out + told.err + asked.out + asked.err


def test_a_bad_setting_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_LAB_RETRIEVAL_TOP_K", "many")
    told = run("query", "anime", "?")
    assert (told.status, len(told.err.splitlines())) == (1, 1)
    assert "RAG_LAB_RETRIEVAL_TOP_K" in told.err


@pytest.mark.parametrize(
    "command", [["ingest", "anime"], ["query", "anime", "?"], ["data", "list"]]
)
def test_a_cache_folder_that_cannot_be_made_is_one_line(
    command: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("RAG_LAB_CACHE", str(file))
    told = run(*command)
    assert (told.status, len(told.err.splitlines())) == (1, 1)
    assert "RAG_LAB_CACHE" in told.err


def test_data_list_is_a_table_and_data(run: Run) -> None:
    rows = {row["corpus"]: row for row in run("data", "list", "--json").data}
    assert rows["anime"]["documents"] >= 200
    assert rows["law_id"]["documents"] >= 250
    assert {"language", "questions", "fingerprint", "from"} <= set(rows["anime"])
    table = run("data", "list").out
    assert "anime" in table
    assert rows["law_id"]["fingerprint"] in table


def test_a_card_is_shown(run: Run) -> None:
    assert "licen" in run("data", "show", "anime").out.lower()


def test_doctor_as_data(run: Run) -> None:
    findings = run("doctor", "--json").data
    assert {"subject", "state", "detail", "remedy"} == set(findings[0])
    assert "embeddings" in {finding["subject"] for finding in findings}
