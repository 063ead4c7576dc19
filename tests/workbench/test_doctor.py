"""What the doctor finds, and that every problem comes with a way out."""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from provider import KEY
from rag_lab.settings import PathSettings
from rag_lab.workbench import doctor
from rag_lab.workbench.doctor import Finding, examine


def found(subject: str) -> Finding:
    return next(finding for finding in examine() if finding.subject == subject)


def test_a_fresh_machine_has_no_problem() -> None:
    findings = examine()
    assert [finding for finding in findings if finding.state == "problem"] == []
    subjects = [finding.subject for finding in findings]
    assert len(subjects) == len(set(subjects))
    assert {"Python", "data folder", "cache folder", "corpora", "embeddings", "answers"} <= set(
        subjects
    )
    json.dumps([finding.to_dict() for finding in findings])


def test_what_is_local_is_said_to_be_local() -> None:
    assert found("embeddings").state == "note"
    assert "local" in found("embeddings").detail
    assert "RAG_LAB_EMBED_MODEL" in found("embeddings").remedy
    assert "extractive" in found("answers").detail


@pytest.mark.parametrize(("stage", "subject"), [("EMBED", "embeddings"), ("LLM", "answers")])
def test_a_configured_model_is_named_and_its_key_is_not(
    stage: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"RAG_LAB_{stage}_MODEL", "house-model-7")
    monkeypatch.setenv(f"RAG_LAB_{stage}_BASE_URL", "http://127.0.0.1:9/v1")
    assert "house-model-7 at http://127.0.0.1:9/v1 (no key)" in found(subject).detail
    monkeypatch.setenv(f"RAG_LAB_{stage}_API_KEY", KEY)
    assert "(key set)" in found(subject).detail
    assert KEY not in repr(examine())


@pytest.mark.parametrize("stage", ["EMBED", "LLM"])
def test_a_half_configured_model_is_a_problem(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"RAG_LAB_{stage}_MODEL", "house-model-7")
    problems = [finding for finding in examine() if finding.state == "problem"]
    assert len(problems) == 1
    assert f"RAG_LAB_{stage}_API_KEY" in problems[0].detail


def test_settings_that_cannot_be_read_are_the_one_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_LAB_ANSWER_MIN_SUPPORT", "7")
    (finding,) = examine()
    assert (finding.subject, finding.state) == ("settings", "problem")
    assert "RAG_LAB_ANSWER_MIN_SUPPORT" in finding.detail


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.version

    def version(name: str) -> str:
        if name == "ragas":
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "version", version)
    assert found("ragas").state == "problem"
    assert "pip install" in found("ragas").remedy


def test_a_package_that_ragas_cannot_work_with_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = doctor.version
    monkeypatch.setattr(
        doctor, "version", lambda name: "0.4.2" if name == "langchain-community" else real(name)
    )
    assert 'pip install "langchain-community<0.4.2"' in found("langchain-community").remedy


def test_folders_that_are_not_there_yet_are_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_LAB_DATA", str(tmp_path / "not" / "yet"))
    monkeypatch.setenv("RAG_LAB_CACHE", str(tmp_path / "neither"))
    assert found("data folder").state == "note"
    assert found("cache folder").state == "ok"
    assert not (tmp_path / "neither").exists()


def test_a_cache_that_cannot_be_written_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert found("cache folder").state == "problem"
    assert "RAG_LAB_CACHE" in found("cache folder").remedy


@pytest.mark.parametrize(("mode", "state"), [(0o644, "problem"), (0o600, "ok")])
def test_a_dotenv_that_others_can_read_is_a_problem(mode: int, state: str) -> None:
    file = Path(".env")
    file.write_text("RAG_LAB_RETRIEVAL_TOP_K=7\n", encoding="utf-8")
    file.chmod(mode)
    assert found(".env").state == state
    assert (found(".env").remedy == "chmod 600 .env") == (state == "problem")


def test_nothing_is_written(paths: PathSettings) -> None:
    examine()
    assert list(paths.cache_folder.iterdir()) == []
