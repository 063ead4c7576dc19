"""Where a setting comes from, what is refused, and what never shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rag_lab.errors import SettingsError
from rag_lab.settings import (
    SECTIONS,
    EmbedSettings,
    PathSettings,
    RetrievalSettings,
    fingerprint_of,
    load_settings,
)

SECRET = "sk-0123456789abcdef"


def yaml_file(text: str | bytes) -> None:
    Path("rag-lab.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())


def test_the_stronger_source_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def top_k(**values: int) -> int:
        return load_settings(retrieval=values).retrieval.top_k

    assert top_k() == 10
    yaml_file("retrieval:\n  top_k: 11\n")
    assert top_k() == 11
    Path(".env").write_text("RAG_LAB_RETRIEVAL_TOP_K=12\n", encoding="utf-8")
    assert top_k() == 12
    monkeypatch.setenv("RAG_LAB_RETRIEVAL_TOP_K", "13")
    assert top_k() == 13
    assert top_k(top_k=14) == 14


def test_each_setting_has_a_source_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    yaml_file("retrieval: {top_k: 11, candidates: 111}\nindex: {bm25_b: 0.5}\n")
    monkeypatch.setenv("RAG_LAB_RETRIEVAL_TOP_K", "13")
    settings = load_settings(retrieval={"fold": False})
    assert settings.retrieval == RetrievalSettings(top_k=13, candidates=111, fold=False)
    assert settings.index.bm25_b == 0.5


def test_the_yaml_file_is_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("answer: {passages: 7}", encoding="utf-8")
    monkeypatch.setenv("RAG_LAB_CONFIG", str(other))
    assert load_settings().answer.passages == 7


def test_an_empty_yaml_file_or_section_sets_nothing() -> None:
    for text in ("", "# nothing yet\n", "retrieval:\n"):
        yaml_file(text)
        assert load_settings().retrieval.top_k == 10


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"no stage 'retriever'; stages are paths, embed, llm"):
        load_settings(retriever={})
    with pytest.raises(SettingsError, match=r"retrieval has no setting 'topk'; it has candidates,"):
        load_settings(retrieval={"topk": 3})


def test_a_stage_built_directly_refuses_unknown_names_too() -> None:
    with pytest.raises((SettingsError, ValidationError), match="topk"):
        RetrievalSettings(topk=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retriever: {}", r"rag-lab\.yaml has no section 'retriever'; sections are paths,"),
        ("retrieval: {topk: 3}", r"rag-lab\.yaml: retrieval has no setting 'topk'; it has"),
        ("- retrieval", r"rag-lab\.yaml holds a list; expected sections"),
        ("retrieval: {top_k: 0}", r"retrieval\.top_k: Input should be greater than 0, got 0"),
        ("retrieval: [", r"rag-lab\.yaml"),
        ("retrieval: 5", r"rag-lab\.yaml"),
        ("1: {}\nx: {}", r"rag-lab\.yaml has no section"),
        (b"\xe9", r"rag-lab\.yaml"),
    ],
    ids=["section", "setting", "list", "range", "broken", "number", "key", "encoding"],
)
def test_an_unusable_yaml_file_is_refused(text: str | bytes, message: str) -> None:
    yaml_file(text)
    with pytest.raises(SettingsError, match=message):
        load_settings()


@pytest.mark.parametrize(
    ("stage", "name", "value", "said"),
    [
        ("retrieval", "top_k", 0, "Input should be greater than 0, got 0"),
        ("retrieval", "dense_weight", 1.5, "Input should be less than or equal to 1, got 1.5"),
        ("retrieval", "fusion", "sum", "'convex' or 'reciprocal_rank', got 'sum'"),
        ("index", "max_node_chars", "many", "valid integer, .*got 'many'"),
    ],
)
def test_out_of_range_says_what_was_given_and_how_to_set_it(
    stage: str, name: str, value: object, said: str
) -> None:
    how = f"Set it by keyword, by RAG_LAB_{stage.upper()}_{name.upper()} or in YAML"
    with pytest.raises(SettingsError, match=rf"^{stage}\.{name}: .*{said}\. {how}\."):
        load_settings(**{stage: {name: value}})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().retrieval.top_k = 3


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "RAG_LAB_EMBED_API_KEY", "RAG_LAB_LLM_API_KEY"])
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_key_is_taken_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    without = load_settings()
    if place == ".env":
        Path(".env").write_text(f"{name}={SECRET}\n", encoding="utf-8")
    else:
        monkeypatch.setenv(name, SECRET)
    settings = load_settings()
    held = [settings.embed.api_key, settings.llm.api_key]
    assert SECRET in [key.get_secret_value() for key in held]
    shown = [settings, settings.embed, settings.llm, settings.public(), settings.embed.public()]
    told = "".join(f"{thing!r}{thing!s}" for thing in shown) + settings.embed.model_dump_json()
    assert SECRET not in told
    assert "api_key" not in json.dumps(settings.public())
    assert settings.fingerprint() == without.fingerprint()
    assert settings.embed.fingerprint() == without.embed.fingerprint()


def test_a_key_of_its_own_is_stronger_than_the_common_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "common")
    monkeypatch.setenv("RAG_LAB_EMBED_API_KEY", "own")
    assert load_settings().embed.api_key.get_secret_value() == "own"
    assert load_settings().llm.api_key.get_secret_value() == "common"
    given = load_settings(embed={"api_key": "given"})
    assert given.embed.api_key.get_secret_value() == "given"


def test_a_key_of_something_else_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", SECRET)
    assert load_settings().embed.api_key.get_secret_value() == ""


def test_an_unusable_key_is_not_quoted() -> None:
    with pytest.raises(SettingsError, match=r"embed\.api_key") as raised:
        load_settings(embed={"api_key": [SECRET]})
    assert SECRET not in str(raised.value)


def test_public_is_plain_data() -> None:
    public = load_settings().public()
    assert tuple(public) == SECTIONS
    assert json.loads(json.dumps(public)) == public


def test_fingerprints_name_results_and_not_how_the_work_is_done(tmp_path: Path) -> None:
    plain = load_settings().fingerprint()
    operational = load_settings(
        embed={"batch_size": 7, "timeout_s": 1},
        llm={"timeout_s": 1},
        gateway={"concurrency": 7, "attempts": 9},
        index={"keep_snapshots": 9},
        paths={"data": tmp_path},
    )
    assert operational.fingerprint() == plain
    changes = [
        {"embed": {"model": "m"}},
        {"llm": {"temperature": 1}},
        {"index": {"bm25_k1": 2}},
        {"retrieval": {"top_k": 3}},
        {"answer": {"passages": 3}},
    ]
    others = {load_settings(**change).fingerprint() for change in changes}
    assert len(others - {plain}) == len(changes)


def test_fingerprints_are_the_same_in_every_process() -> None:
    code = "from rag_lab.settings import load_settings; print(load_settings().fingerprint())"
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert told == {load_settings().fingerprint()}


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)))
def test_the_order_of_keys_does_not_matter(data: dict[str, int | str]) -> None:
    name = fingerprint_of(data)
    assert name == fingerprint_of(dict(reversed(data.items())))
    assert len(name) == 12


def test_a_known_fingerprint() -> None:
    # sha256('{"a":1}') begins with 015abd7f5cc5.
    assert fingerprint_of({"a": 1}) == "015abd7f5cc5"


def test_home_folders_are_filled_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = PathSettings(data=Path("~/corpora"), cache=Path("~/vectors"))
    assert settings.data_folder == tmp_path / "corpora"
    assert settings.cache_folder == tmp_path / "vectors"


def test_a_stage_reads_its_own_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_LAB_EMBED_MODEL", "m")
    assert (EmbedSettings().model, load_settings().llm.model) == ("m", "")
