"""Vectors kept on disk: found again, by every process, and never mixed up."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rag_lab.errors import ModelError
from rag_lab.gateway.cache import AnswerCache, VectorCache, answer_key, cache_key, cache_keys

KEY = cache_key("m", 3, "document", "Umi")
OTHER = cache_key("m", 3, "document", "Yama")
VECTORS = np.array([[0.25, -1.0, 3.0], [0.0, 0.5, 1e-30]], np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "deep" / "vectors.sqlite"


def test_round_trip(path: Path) -> None:
    with VectorCache(path) as cache:
        assert (len(cache), cache.set_aside) == (0, None)
        cache.put([KEY, OTHER], VECTORS)
        found = cache.get([OTHER, b"unknown", KEY])
        assert found.keys() == {KEY, OTHER}
        np.testing.assert_array_equal(found[KEY], VECTORS[0])
        np.testing.assert_array_equal(found[OTHER], VECTORS[1])
        assert found[KEY].dtype == np.float32
    with VectorCache(path) as again:
        assert len(again) == 2
        np.testing.assert_array_equal(again.get([KEY])[KEY], VECTORS[0])


def test_the_first_vector_of_a_key_stays(path: Path) -> None:
    with VectorCache(path) as cache:
        cache.put([KEY], VECTORS[:1])
        cache.put([KEY], VECTORS[1:])
        np.testing.assert_array_equal(cache.get([KEY])[KEY], VECTORS[0])
        assert len(cache) == 1


def test_doubles_become_floats_and_nothing_is_nothing(path: Path) -> None:
    with VectorCache(path) as cache:
        cache.put([KEY], np.array([[0.1, 0.2]]))
        np.testing.assert_array_equal(cache.get([KEY])[KEY], np.array([0.1, 0.2], np.float32))
        cache.put([], np.empty((0, 2), np.float32))
        assert cache.get([]) == {}


def test_more_keys_than_one_look_up_takes(path: Path) -> None:
    keys = [cache_key("m", 1, "query", str(number)) for number in range(1201)]
    with VectorCache(path) as cache:
        cache.put(keys, np.arange(1201, dtype=np.float32)[:, None])
        found = cache.get(keys)
        assert [found[key].tolist() for key in keys] == [[float(n)] for n in range(1201)]


def test_what_was_put_is_seen_by_another_connection_at_once(path: Path) -> None:
    with VectorCache(path) as cache:
        cache.put([KEY], VECTORS[:1])
        other = sqlite3.connect(path)
        (blob,) = other.execute("SELECT vector FROM vectors WHERE key = ?", [KEY]).fetchone()
        other.close()
        assert blob == VECTORS[0].tobytes()


def test_a_put_that_does_not_fit_keeps_nothing(path: Path) -> None:
    with VectorCache(path) as cache:
        with pytest.raises(ValueError, match="shorter"):
            cache.put([KEY, OTHER], VECTORS[:1])
        assert len(cache) == 0


WRITER = """
import sys
from pathlib import Path
import numpy as np
from rag_lab.gateway.cache import VectorCache, cache_key
first = int(sys.argv[2])
with VectorCache(Path(sys.argv[1])) as cache:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(first, first + 150):
        key = cache_key("m", 2, "document", str(number))
        cache.put([key], np.full((1, 2), number, np.float32))
"""


def test_two_processes_write_at_once(path: Path) -> None:
    # The second 100 of the one are the first 100 of the other.
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (0, 50)
    ]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0, 0]
    keys = [cache_key("m", 2, "document", str(number)) for number in range(200)]
    with VectorCache(path) as cache:
        found = cache.get(keys)
        assert [found[key].tolist() for key in keys] == [[float(n), float(n)] for n in range(200)]
        assert len(cache) == 200


def test_a_damaged_file_is_set_aside_and_named(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    path.write_bytes(b"no database" * 500)
    with VectorCache(path) as cache:
        assert cache.set_aside is not None
        assert cache.set_aside.name.startswith("vectors.sqlite.damaged-")
        assert cache.set_aside.read_bytes() == b"no database" * 500
        cache.put([KEY], VECTORS[:1])
        assert len(cache) == 1
    with VectorCache(path) as again:
        assert again.set_aside is None
        assert len(again) == 1


def test_files_damaged_within_a_second_are_all_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    for _ in range(3):
        path.write_bytes(b"no database" * 500)
        VectorCache(path).close()
    assert len([*tmp_path.glob("vectors.sqlite.damaged-*")]) == 3


def filled(path: Path) -> list[bytes]:
    keys = [cache_key("m", 64, "document", str(number)) for number in range(2000)]
    with VectorCache(path) as cache:
        cache.put(keys, np.ones((2000, 64), np.float32))
    return keys


def test_a_file_that_was_cut_off_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    filled(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with VectorCache(path) as cache:
        assert cache.set_aside is not None
        assert len(cache) == 0


def test_damage_in_the_middle_is_set_aside_when_it_is_met(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    keys = filled(path)
    data = bytearray(path.read_bytes())
    pages = slice(20 * 4096, 40 * 4096)
    data[pages] = b"\xff" * len(data[pages])
    path.write_bytes(data)
    with VectorCache(path) as cache:
        assert cache.get(keys) == {}
        assert cache.set_aside is not None
        assert cache.set_aside.read_bytes() == bytes(data)


@pytest.mark.parametrize(
    "place",
    [
        "folder",
        "below a file",
        "another table",
    ],
)
def test_what_cannot_be_opened_is_a_model_error(tmp_path: Path, place: str) -> None:
    path = tmp_path / "vectors.sqlite"
    if place == "folder":
        path.mkdir()
    elif place == "below a file":
        path.write_text("x")
        path = path / "vectors.sqlite"
    else:
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE vectors (other)")
        other.close()
    with pytest.raises(ModelError, match=r"vectors\.sqlite"):
        VectorCache(path).get([KEY])


def test_a_closed_cache_is_no_damaged_one(path: Path) -> None:
    cache = VectorCache(path)
    cache.put([KEY], VECTORS[:1])
    cache.close()
    with pytest.raises(ModelError, match="cannot be read"):
        cache.get([KEY])
    with pytest.raises(ModelError, match="cannot be written"):
        cache.put([OTHER], VECTORS[1:])
    assert cache.set_aside is None
    with VectorCache(path) as again:
        assert len(again) == 1


def test_vectors_of_different_lengths_are_kept_side_by_side(path: Path) -> None:
    with VectorCache(path) as cache:
        cache.put([KEY, OTHER], [VECTORS[0], VECTORS[1, :2]])
        found = cache.get([KEY, OTHER])
        assert [len(found[key]) for key in (KEY, OTHER)] == [3, 2]


def test_answers_are_kept_by_what_was_asked_and_their_number(path: Path) -> None:
    messages, options = [{"role": "user", "content": "こんにちは"}], {"temperature": 0}
    key = answer_key("m", messages, options, 0)
    with AnswerCache(path) as cache:
        assert cache.get(key) is None
        cache.put(key, {"content": "やあ", "prompt_tokens": None})
        cache.put(key, {"content": "another"})
    with AnswerCache(path) as again:
        assert again.get(key) == {"content": "やあ", "prompt_tokens": None}
    others = {
        key,
        answer_key("n", messages, options, 0),
        answer_key("m", [*messages, *messages], options, 0),
        answer_key("m", messages, {"temperature": 1}, 0),
        answer_key("m", messages, options, 1),
    }
    assert len(others) == 5


def test_keys_of_many_texts_are_those_of_each() -> None:
    texts = ["Umi", "", "Umi", "half \ud800"]
    assert cache_keys("m", 3, "document", texts) == [
        cache_key("m", 3, "document", text) for text in texts
    ]


def test_another_model_dimension_kind_or_text_is_another_key() -> None:
    keys = {
        KEY,
        cache_key("n", 3, "document", "Umi"),
        cache_key("m", 4, "document", "Umi"),
        cache_key("m", None, "document", "Umi"),
        cache_key("m", 3, "query", "Umi"),
        cache_key("m", 3, "document", "umi"),
    }
    assert len(keys) == 6
    assert {len(key) for key in keys} == {32}
    assert cache_key("m", 3, "document", "Umi") == KEY


_INPUT = st.tuples(
    st.text("m3dq", max_size=4),
    st.sampled_from([None, 3, 33]),
    st.sampled_from(["document", "query"]),
    st.text("m3dq\ud800", max_size=4),
)


@given(_INPUT, _INPUT)
def test_different_inputs_have_different_keys(
    one: tuple[str, int | None, str, str], other: tuple[str, int | None, str, str]
) -> None:
    assume(one != other)
    assert cache_key(*one) != cache_key(*other)  # type: ignore[arg-type]


@given(st.text("ab", max_size=6), st.integers(0, 6), st.integers(0, 6))
def test_moving_the_border_of_model_and_text_gives_another_key(text: str, i: int, j: int) -> None:
    assume(min(i, len(text)) != min(j, len(text)))
    keys = [cache_key(text[:cut], None, "query", text[cut:]) for cut in (i, j)]
    assert keys[0] != keys[1]
