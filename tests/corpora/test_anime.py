"""Shows in four forms, all invented; files that are large or broken; the public samples."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import Document, MetadataMode

from rag_lab.corpora.anime import read_anime
from rag_lab.errors import Rejection

SHOKO = {
    "AniDB_AnimeID": 7,
    "AnimeID": 90001,
    "MainTitle": "Umi no Kikai",
    "AllTitles": "Umi no Kikai|The Sea Engine|海の機械|The Sea Engine",
    "AllTags": "sea|machines",
    "Description": "A diver and http://anidb.net/ch1 [Aoi Minato] wake an engine.",
    "EpisodeCountNormal": 12,
    "EpisodeCountSpecial": 1,
    "BeginYear": 2031,
    "EndYear": 2031,
    "AirDate": "2031-04-05 00:00:00",
    "Rating": 742,
    "VoteCount": 310,
    "AvgReviewRating": 0,
    "ReviewCount": 0,
    "ANNID": 55,
    "CrunchyrollID": None,
    "relations": json.dumps(
        [{"anime_id": 90002, "relation_type": "Sequel", "title_main": "Umi II", "begin_year": 2032}]
    ),
    "similar": json.dumps([{"anime_id": 90003, "approval_agree": 4, "approval_total": 5}]),
}
ANIDB = {
    "aid": 90001,
    "title": "Umi no Kikai",
    "type": "TV Series",
    "episode_count_normal": 12,
    "episode_count_special": 2,
    "start_date": "2031-04-05T00:00:00",
    "end_date": "2031-06-21T00:00:00",
    "begin_year": 2031,
    "end_year": 2031,
    "titles": [
        {"title": "Umi no Kikai", "language": "x-jat", "type": "main"},
        {"title": "海の機械", "language": "ja", "type": "official"},
    ],
    "synopsis": "A diver and http://anidb.net/ch1 [Aoi Minato] wake an engine.",
    "creators": [
        {"name": "Studio Kelp", "id": 1, "type": "Animation Work"},
        {"name": "Rin Oda", "id": 2, "type": "Original Work"},
    ],
    "tags": [{"name": "sea", "weight": 600}, {"name": "machines", "weight": 0}],
    "ratings": {"permanent": 7.42, "permanent_count": 310},
    "ann_id": 55,
    "related_anime": [{"aid": 90002, "type": "Sequel", "title": "Umi II"}],
    "similar_anime": [{"aid": 90003, "approval": 4, "total": 5}],
}
MAL = {
    "mal_id": 77,
    "title_main": "Umi no Kikai",
    "title_english": "The Sea Engine",
    "title_japanese": "海の機械",
    "title_alts": ["Umi no Kikai", "Sea Engine"],
    "description": "A diver wakes an engine.\n\n[Written by a rewriter]",
    "genres": ["Drama"],
    "themes": ["Sea", "Drama"],
    "demographics": ["Seinen"],
    "studios": ["Studio Kelp"],
    "source": "Manga",
    "type": "TV",
    "episode_count": 12,
    "air_date": "2031-04-05",
    "end_date": "2031-06-21",
    "score": 7.42,
    "scored_by": 310,
}
OWN = {
    "id": "mal-77",
    "main_title": "Umi no Kikai",
    "aliases": ["The Sea Engine"],
    "description": "A diver wakes an engine.",
    "tags": ["Drama"],
    "studios": ["Studio Kelp", "Reef"],
    "source": "Original",
    "type": "TV",
    "episodes": 1,
    "specials": None,
    "begin_year": 2031,
    "air_date": "2031-04-05",
    "rating": 7.42,
    "external_ids": {"mal": 77},
    "relations": [{"id": "mal-78", "type": "Sequel", "title": "Umi II"}],
    "similar": ["mal-79"],
}


def one(path: Path) -> Document:
    items = list(read_anime(path))
    assert len(items) == 1
    assert isinstance(items[0], Document), str(items[0])
    return items[0]


def rejected(path: Path) -> list[str]:
    return [str(item) for item in read_anime(path) if isinstance(item, Rejection)]


@pytest.mark.parametrize("name", ["export.json", "indented.json", "export.json.gz"])
def test_a_shoko_export(write: Any, name: str) -> None:
    show = one(write(name, {"AniDB_Anime": [SHOKO]}))
    assert show.id_ == "anidb-90001"
    assert show.text == (
        "A diver and Aoi Minato wake an engine.\n"
        "Umi no Kikai — Also known as The Sea Engine, 海の機械. "
        "Show, aired from 2031-04-05 to 2031."
        " 12 episodes and 1 special. Genres and themes: sea, machines. Rating: 7.42 of 10."
        " Sequel: Umi II."
    )
    assert show.metadata == {
        "record": "show",
        "title": "Umi no Kikai",
        "titles": ["Umi no Kikai", "The Sea Engine", "海の機械"],
        "tags": ["sea", "machines"],
        "episodes": 12,
        "specials": 1,
        "begin_year": 2031,
        "end_year": 2031,
        "air_date": "2031-04-05",
        "rating": 7.42,
        "votes": 310,
        "external_ids": {"ann": "55"},
        "relations": [["anidb-90002", "Sequel", "Umi II"]],
        "similar": [["anidb-90003", 4, 5]],
        "source_file": name,
        "source_line": 1,
    }


@pytest.mark.parametrize(("name", "as_list"), [("indented.json", False), ("rows.jsonl", True)])
def test_a_full_anidb_record(write: Any, name: str, as_list: bool) -> None:
    show = one(write(name, [ANIDB] if as_list else ANIDB))
    assert show.id_ == "anidb-90001"
    assert show.text.startswith("A diver and Aoi Minato wake an engine.\nUmi no Kikai — ")
    assert (
        "TV series, aired from 2031-04-05 to 2031-06-21. 12 episodes and 2 specials." in show.text
    )
    wanted = {
        "titles": ["Umi no Kikai", "海の機械"],
        "tags": ["sea", "machines"],
        "studios": ["Studio Kelp"],
        "source": "Rin Oda",
        "type": "TV",
        "rating": 7.42,
        "votes": 310,
        "external_ids": {"ann": "55"},
        "relations": [["anidb-90002", "Sequel", "Umi II"]],
        "similar": [["anidb-90003", 4, 5]],
    }
    assert {key: show.metadata[key] for key in wanted} == wanted


def test_a_myanimelist_row(write: Any) -> None:
    show = one(write("shows.jsonl.gz", [MAL]))
    assert show.id_ == "mal-77"
    assert show.text.startswith("A diver wakes an engine.\nUmi no Kikai — Also known as")
    wanted = {
        "titles": ["Umi no Kikai", "The Sea Engine", "海の機械", "Sea Engine"],
        "tags": ["Drama", "Sea", "Seinen"],
        "begin_year": 2031,
        "end_year": 2031,
        "rating": 7.42,
        "votes": 310,
        "external_ids": {"mal": "77"},
    }
    assert {key: show.metadata[key] for key in wanted} == wanted


def test_our_own_form(write: Any) -> None:
    show = one(write("documents.jsonl", [OWN]))
    assert show.id_ == "mal-77"
    assert show.text.split("\n")[1] == (
        "Umi no Kikai — Also known as The Sea Engine. TV series, aired from 2031-04-05. 1 episode."
        " Studios: Studio Kelp, Reef. Source: Original. Genres and themes: Drama."
        " Rating: 7.42 of 10. Sequel: Umi II."
    )
    assert show.metadata["external_ids"] == {"mal": "77"}
    assert "specials" not in show.metadata


def test_titles_tags_studios_and_year_are_embedded_with_the_text(write: Any) -> None:
    header, _, body = (
        one(write("documents.jsonl", [OWN])).get_content(MetadataMode.EMBED).partition("\n\n")
    )
    keys = [line.split(":")[0] for line in header.split("\n")]
    assert sorted(keys) == ["begin_year", "studios", "tags", "titles"]
    assert body.startswith("A diver")


def test_forms_may_be_mixed_in_json_lines(write: Any) -> None:
    shows = list(read_anime(write("mixed.jsonl", [OWN, MAL | {"mal_id": 5}, ANIDB, SHOKO])))
    ids = [show.id_ for show in shows if isinstance(show, Document)]
    assert ids == ["mal-77", "mal-5", "anidb-90001", "anidb-90001"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"main_title": "Nameless"}, "missing id: none of AnimeID, aid, mal_id, id is there"),
        ({"id": "x", "main_title": " "}, "(x): no title"),
        ({"id": "x"}, "(x): unusable value: 'main_title'"),
        ({"id": " ", "main_title": "X"}, "unusable value: id is empty"),
        ({"mal_id": None, "title_main": "X"}, "unusable value: mal_id is empty"),
        ({"id": "x", "main_title": "X", "episodes": "many"}, "(x): unusable value: could not"),
        ({"id": "x", "main_title": "X", "relations": [3]}, "(x): unusable value"),
        (SHOKO | {"relations": "not JSON"}, "(90001): unusable value"),
    ],
)
def test_an_unusable_row_says_why(write: Any, row: dict[str, Any], reason: str) -> None:
    (said,) = rejected(write("a.jsonl", [row]))
    assert said.startswith("a.jsonl:1")
    assert reason in said


def test_a_synopsis_may_be_missing(write: Any) -> None:
    assert one(write("a.jsonl", [{"id": "x", "main_title": "X"}])).text == "X"


def test_public_samples(real_corpus: Callable[[str], Path]) -> None:
    folder = real_corpus("shoko_export_samples")
    shows = {path.name: one(path) for path in sorted(folder.glob("*.json"))}
    assert [show.id_ for show in shows.values()] == ["anidb-17920", "anidb-19060", "anidb-3507"]
    assert shows["3507.json"].metadata["title"] == "Hyakujuu Ou Golion"
    assert "Voltron" in shows["3507.json"].metadata["titles"]
    assert (shows["3507.json"].metadata["episodes"], shows["17920.json"].metadata["episodes"]) == (
        52,
        12,
    )
    assert shows["19060.json"].metadata["studios"] == ["Science Saru"]
    assert not any("anidb.net" in show.text for show in shows.values())


MEBIBYTE = 1024 * 1024


def show(number: int, **more: Any) -> dict[str, Any]:
    return {"AnimeID": number, "MainTitle": f"Show {number}", **more}


def read(path: Path) -> tuple[list[str], list[str]]:
    items = list(read_anime(path))
    rejected = [str(item) for item in items if isinstance(item, Rejection)]
    return [item.id_ for item in items if isinstance(item, Document)], rejected


def ids(count: int) -> list[str]:
    return [f"anidb-{number}" for number in range(1, count + 1)]


def test_a_shoko_export_of_60_megabytes_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    told = "The sea engine turns. " * 900
    with path.open("w", encoding="utf-8") as stream:
        stream.write('{"AniDB_Anime": [')
        for number in range(3200):
            stream.write("," * (number > 0) + json.dumps(show(number + 1, Description=told)))
        stream.write("]}")
    assert path.stat().st_size > 60_000_000
    tracemalloc.start()
    try:
        count = sum(isinstance(item, Document) for item in read_anime(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 3200
    assert peak < 60 * MEBIBYTE


def test_json_broken_in_the_middle_keeps_what_came_before(write: Any) -> None:
    whole = json.dumps({"AniDB_Anime": [show(number) for number in range(1, 21)]})
    broken = whole.replace('{"AnimeID": 11', '{"AnimeID" 11')
    kept, rejected = read(write("export.json", broken))
    assert kept == ids(10)
    assert len(rejected) == 1
    assert rejected[0].startswith("export.json:11: malformed JSON from here on: ")


def test_an_export_that_was_cut_off_keeps_what_came_before(write: Any) -> None:
    whole = json.dumps({"AniDB_Anime": [show(number) for number in range(1, 21)]})
    kept, rejected = read(write("export.json", whole[:-60]))
    assert kept == ids(len(kept))
    assert 15 < len(kept) < 20
    assert len(rejected) == 1


def test_a_truncated_gz_export_keeps_what_came_before(tmp_path: Path) -> None:
    numbers = random.Random(1)
    shows = [show(n, Description=f"{numbers.getrandbits(256):x}") for n in range(1, 2001)]
    packed = gzip.compress(json.dumps({"AniDB_Anime": shows}).encode())
    path = tmp_path / "export.json.gz"
    path.write_bytes(packed[: len(packed) // 2])
    kept, rejected = read(path)
    assert kept == ids(len(kept))
    assert len(kept) > 500
    assert len(rejected) == 1
    assert rejected[0].startswith(f"export.json.gz:{len(kept) + 1}: ")


def test_an_entry_that_is_no_object_costs_only_itself(write: Any) -> None:
    kept, rejected = read(write("e.json", json.dumps({"AniDB_Anime": [show(1), 7, show(3)]})))
    assert kept == ["anidb-1", "anidb-3"]
    assert rejected == ["e.json:2: expected a JSON object, got int"]


def test_text_in_another_encoding_is_rejected(write: Any) -> None:
    kept, rejected = read(
        write("e.json", b'{"AniDB_Anime": [{"AnimeID": 1, "MainTitle": "\xe9"}]}')
    )
    assert kept == []
    assert len(rejected) == 1
    assert rejected[0].startswith("e.json:1: malformed JSON from here on: ")


HEADS = [b"", b" \r\n", b"\xef\xbb\xbf"]


@pytest.mark.parametrize("head", HEADS)
def test_what_stands_before_an_export_does_no_harm(write: Any, head: bytes) -> None:
    path = write("e.json", head + b'{ "AniDB_Anime" : [{"AnimeID": 1, "MainTitle": "Umi"}]}')
    assert read(path) == (["anidb-1"], [])


@pytest.mark.parametrize("head", HEADS)
def test_what_stands_before_a_full_record_does_no_harm(write: Any, head: bytes) -> None:
    path = write("e.json", head + b'{\n"aid": 1, "title": "Umi"\n}')
    assert read(path) == (["anidb-1"], [])


def test_a_full_record_on_one_line(write: Any) -> None:
    assert read(write("e.json", b'{"aid": 1, "title": "Umi"}')) == (["anidb-1"], [])


def test_a_broken_full_record_is_one_rejection(write: Any) -> None:
    kept, rejected = read(write("e.json", b'{\n"aid": 1,\n"title": \n}'))
    assert kept == []
    assert len(rejected) == 1
    assert rejected[0].startswith("e.json:1: malformed JSON: ")


def test_an_export_without_a_list_says_so(write: Any) -> None:
    kept, rejected = read(write("e.json", b'{"AniDB_Anime": "later"}'))
    assert kept == []
    assert len(rejected) == 1


@pytest.mark.parametrize("value", ["inf", "1e999"])
def test_a_number_without_bounds_is_rejected(write: Any, value: str) -> None:
    kept, rejected = read(write("a.jsonl", [{"id": "x", "main_title": "X", "episodes": value}]))
    assert kept == []
    assert rejected[0].startswith("a.jsonl:1 (x): unusable value")


def test_a_rating_that_is_no_number_is_rejected(write: Any) -> None:
    kept, rejected = read(write("a.jsonl", [{"id": "x", "main_title": "X", "rating": "nan"}]))
    assert kept == []
    assert rejected[0].startswith("a.jsonl:1 (x): unusable value")


@pytest.mark.parametrize("field", ["aliases", "tags", "studios"])
def test_a_list_that_is_a_text_is_not_split_into_letters(write: Any, field: str) -> None:
    items = list(read_anime(write("a.jsonl", [{"id": "x", "main_title": "X", field: "Umi"}])))
    told = [item.text for item in items if isinstance(item, Document)]
    assert not any("U, m, i" in text for text in told)
