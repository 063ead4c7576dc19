"""Anime shows: the reference system's `ShowDoc`, and readers for four ways of storing one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from rag_lab.corpora.files import (
    BOM,
    DAMAGE,
    clean_text,
    open_binary,
    read_json_lines,
    read_whole,
)
from rag_lab.errors import Rejection

if TYPE_CHECKING:
    from llama_index.core.schema import Document

HEADER_KEYS = ("titles", "tags", "studios", "begin_year")
"""Metadata searched together with the description."""

_ANIDB_LINK = re.compile(r"https?://anidb\.net/\S+\s*\[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Relation:
    """A show that belongs to the same story."""

    id: str
    kind: str
    title: str = ""
    begin_year: int | None = None
    end_year: int | None = None


@dataclass(frozen=True, slots=True)
class Similar:
    """A show that viewers call similar: `agree` of `total` votes."""

    id: str
    agree: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class ShowDoc:
    """One show. Ratings are on a scale of 0 to 10, dates ISO 8601 (YYYY-MM-DD)."""

    id: str
    main_title: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    tags: tuple[str, ...] = ()
    studios: tuple[str, ...] = ()
    source: str = ""
    kind: str = ""
    episodes: int | None = None
    specials: int | None = None
    begin_year: int | None = None
    end_year: int | None = None
    air_date: str = ""
    end_date: str = ""
    rating: float | None = None
    votes: int | None = None
    external_ids: Mapping[str, str] = field(default_factory=dict)
    relations: tuple[Relation, ...] = ()
    similar: tuple[Similar, ...] = ()

    @property
    def titles(self) -> tuple[str, ...]:
        """Every name of the show once, the main title first."""
        return tuple(dict.fromkeys((self.main_title, *self.aliases)))

    def to_document(self, file: str, line: int) -> Document:
        """The show as a LlamaIndex document; facts that people ask for are told in its text."""
        from llama_index.core.schema import Document

        metadata = {
            "record": "show",
            "title": self.main_title,
            "titles": list(self.titles),
            "tags": list(self.tags),
            "studios": list(self.studios),
            "source": self.source,
            "type": self.kind,
            "episodes": self.episodes,
            "specials": self.specials,
            "begin_year": self.begin_year,
            "end_year": self.end_year,
            "air_date": self.air_date,
            "end_date": self.end_date,
            "rating": self.rating,
            "votes": self.votes,
            "external_ids": dict(self.external_ids),
            "relations": [[r.id, r.kind, r.title] for r in self.relations],
            "similar": [[s.id, s.agree, s.total] for s in self.similar],
            "source_file": file,
            "source_line": line,
        }
        known = {key: value for key, value in metadata.items() if value not in (None, "", [], {})}
        return Document(
            id_=self.id,
            text="\n".join(part for part in (self.description, self.facts()) if part),
            metadata=known,
            excluded_embed_metadata_keys=[key for key in known if key not in HEADER_KEYS],
        )

    def facts(self) -> str:
        """The recorded facts as plain sentences, so that an extractive answer can cite them."""
        sentences = [
            _listed("Also known as", self.titles[1:]),
            _airing(self),
            _episodes(self),
            _listed("Studio:" if len(self.studios) == 1 else "Studios:", self.studios),
            f"Source: {self.source}." if self.source else "",
            _listed("Genres and themes:", self.tags),
            f"Rating: {self.rating:g} of 10." if self.rating else "",
            *(f"{r.kind}: {r.title}." for r in self.relations if r.title),
        ]
        told = [sentence for sentence in sentences if sentence]
        return f"{self.main_title} — " + " ".join(told) if told else self.main_title


def _listed(label: str, values: tuple[str, ...]) -> str:
    return f"{label} {', '.join(values)}." if values else ""


def _airing(show: ShowDoc) -> str:
    begin = show.air_date or str(show.begin_year or "")
    end = show.end_date or str(show.end_year or "")
    if not begin:
        return ""
    kind = f"{show.kind} series" if show.kind == "TV" else show.kind or "Show"
    return f"{kind}, aired from {begin}" + (f" to {end}." if end and end != begin else ".")


def _episodes(show: ShowDoc) -> str:
    counts = []
    if show.episodes:
        counts.append(f"{show.episodes} episode{'s' * (show.episodes != 1)}")
    if show.specials:
        counts.append(f"{show.specials} special{'s' * (show.specials != 1)}")
    return f"{' and '.join(counts)}." if counts else ""


def read_anime(path: Path) -> Iterator[Document | Rejection]:
    """Reads shows from JSON lines, a Shoko export or a full AniDB record.

    The form is told from the content: an object with `AniDB_Anime` is a Shoko export (streamed,
    so its size does not matter), one with `aid` a full AniDB record; everything else is read as
    JSON lines, where each row may be ours, MyAnimeList-shaped or AniDB-shaped.
    """
    form = _form_of(path)
    rows = {"shoko": _shoko_rows, "anidb": _anidb_rows, "lines": read_json_lines}[form](path)
    for item in rows:
        if isinstance(item, Rejection):
            yield item
            continue
        number, row = item
        show = show_from(row, path.name, number)
        yield show if isinstance(show, Rejection) else show.to_document(path.name, number)


def _form_of(path: Path) -> str:
    with open_binary(path) as stream:
        try:
            head = stream.read(4096).removeprefix(BOM).lstrip()
        except DAMAGE:
            return "lines"  # the line reader reports the damage with its place
    if re.match(rb'\{\s*"AniDB_Anime"\s*:', head):
        return "shoko"
    first_line = head.split(b"\n", 1)[0].strip()
    return "anidb" if re.match(rb"\{\s*$", first_line) else "lines"


def _shoko_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Rejection]:
    """Objects of the export's list with their ordinal; a break in the JSON ends the reading."""
    import ijson

    number = 0
    with open_binary(path) as stream:
        try:
            if stream.read(len(BOM)) != BOM:
                stream.seek(0)
            for row in ijson.items(stream, "AniDB_Anime.item", use_float=True):
                number += 1
                if isinstance(row, dict):
                    yield number, row
                else:
                    kind = type(row).__name__
                    yield Rejection(path.name, number, f"expected a JSON object, got {kind}")
        except (ijson.JSONError, UnicodeDecodeError, *DAMAGE) as error:
            yield Rejection(path.name, number + 1, f"malformed JSON from here on: {error}")
            return
    if not number:
        yield Rejection(path.name, 1, "AniDB_Anime holds no record; expected a list of objects")


def _anidb_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Rejection]:
    content = read_whole(path)
    if isinstance(content, Rejection):
        yield content
        return
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        yield Rejection(path.name, 1, f"malformed JSON: {error}")
        return
    for number, row in enumerate(value if isinstance(value, list) else [value], 1):
        if isinstance(row, dict):
            yield number, row
        else:
            yield Rejection(path.name, number, f"expected an object, got {type(row).__name__}")


def show_from(row: Mapping[str, Any], file: str, line: int) -> ShowDoc | Rejection:
    """Makes a show of one record in any of the known forms, or says why it is none."""
    for key, make in _FORMS.items():
        if key in row:
            try:
                show = make(row)
            except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
                return Rejection(file, line, f"unusable value: {error}", str(row.get(key)))
            if show.main_title:
                return show
            return Rejection(file, line, "no title", show.id)
    return Rejection(file, line, f"missing id: none of {', '.join(_FORMS)} is there")


def _from_own(row: Mapping[str, Any]) -> ShowDoc:
    return ShowDoc(
        id=_required(row, "id"),
        main_title=_text(row["main_title"]),
        aliases=_texts(row.get("aliases")),
        description=_text(row.get("description")),
        tags=_texts(row.get("tags")),
        studios=_texts(row.get("studios")),
        source=_text(row.get("source")),
        kind=_text(row.get("type")),
        episodes=_whole(row.get("episodes")),
        specials=_whole(row.get("specials")),
        begin_year=_whole(row.get("begin_year")),
        end_year=_whole(row.get("end_year")),
        air_date=_date(row.get("air_date")),
        end_date=_date(row.get("end_date")),
        rating=_number(row.get("rating")),
        external_ids={key: str(value) for key, value in (row.get("external_ids") or {}).items()},
        relations=tuple(
            Relation(str(r["id"]), _text(r.get("type")), _text(r.get("title")))
            for r in row.get("relations") or ()
        ),
        similar=tuple(Similar(str(s)) for s in row.get("similar") or ()),
    )


def _from_mal(row: Mapping[str, Any]) -> ShowDoc:
    main = _text(row.get("title_main"))
    names = (row.get("title_english"), row.get("title_japanese"), *(row.get("title_alts") or ()))
    return ShowDoc(
        id=f"mal-{_required(row, 'mal_id')}",
        main_title=main,
        aliases=tuple(name for name in dict.fromkeys(_texts(names)) if name != main),
        description=_without_credit(_text(row.get("description"))),
        tags=tuple(
            dict.fromkeys(
                _texts(row.get("genres"))
                + _texts(row.get("themes"))
                + _texts(row.get("tags"))
                + _texts(row.get("demographics"))
            )
        ),
        studios=_texts(row.get("studios")),
        source=_text(row.get("source")),
        kind=_text(row.get("type")),
        episodes=_whole(row.get("episode_count")),
        begin_year=_whole(row.get("year")) or _year(row.get("air_date")),
        end_year=_year(row.get("end_date")),
        air_date=_date(row.get("air_date")),
        end_date=_date(row.get("end_date")),
        rating=_number(row.get("score")),
        votes=_whole(row.get("scored_by")),
        external_ids={"mal": str(row["mal_id"])},
    )


def _from_shoko(row: Mapping[str, Any]) -> ShowDoc:
    main = _text(row.get("MainTitle"))
    ids = {"ann": row.get("ANNID"), "crunchyroll": row.get("CrunchyrollID")}
    return ShowDoc(
        id=f"anidb-{_required(row, 'AnimeID')}",
        main_title=main,
        aliases=tuple(name for name in _split(row.get("AllTitles")) if name != main),
        description=_anidb_text(row.get("Description")),
        tags=_split(row.get("AllTags")),
        episodes=_whole(row.get("EpisodeCountNormal")),
        specials=_whole(row.get("EpisodeCountSpecial")),
        begin_year=_whole(row.get("BeginYear")),
        end_year=_whole(row.get("EndYear")),
        air_date=_date(row.get("AirDate")),
        rating=_rating_of_1000(row.get("Rating")),
        votes=_whole(row.get("VoteCount")),
        external_ids={key: str(value) for key, value in ids.items() if value},
        relations=tuple(
            Relation(
                f"anidb-{r['anime_id']}",
                _text(r.get("relation_type")),
                _text(r.get("title_main")),
                _whole(r.get("begin_year")),
                _whole(r.get("end_year")),
            )
            for r in _json_list(row.get("relations"))
        ),
        similar=tuple(
            Similar(
                f"anidb-{s['anime_id']}",
                _whole(s.get("approval_agree")) or 0,
                _whole(s.get("approval_total")) or 0,
            )
            for s in _json_list(row.get("similar"))
        ),
    )


def _from_anidb(row: Mapping[str, Any]) -> ShowDoc:
    main = _text(row.get("title"))
    names = [entry.get("title") for entry in row.get("titles") or ()]
    ratings = row.get("ratings") or {}
    ids = {key.removesuffix("_id"): row.get(key) for key in row if key.endswith("_id")}
    return ShowDoc(
        id=f"anidb-{_required(row, 'aid')}",
        main_title=main,
        aliases=tuple(name for name in dict.fromkeys(_texts(names)) if name != main),
        description=_anidb_text(row.get("synopsis")),
        tags=_texts([tag.get("name") for tag in row.get("tags") or ()]),
        studios=_creators(row, "Animation Work"),
        source=", ".join(_creators(row, "Original Work")),
        kind=_text(row.get("type")).removesuffix(" Series"),
        episodes=_whole(row.get("episode_count_normal") or row.get("episode_count")),
        specials=_whole(row.get("episode_count_special")),
        begin_year=_whole(row.get("begin_year")),
        end_year=_whole(row.get("end_year")),
        air_date=_date(row.get("start_date")),
        end_date=_date(row.get("end_date")),
        rating=_number(ratings.get("permanent")),
        votes=_whole(ratings.get("permanent_count")),
        external_ids={key: str(value) for key, value in ids.items() if value},
        relations=tuple(
            Relation(f"anidb-{r['aid']}", _text(r.get("type")), _text(r.get("title")))
            for r in row.get("related_anime") or ()
        ),
        similar=tuple(
            Similar(
                f"anidb-{s['aid']}",
                _whole(s.get("approval", s.get("approval_agree"))) or 0,
                _whole(s.get("total", s.get("approval_total"))) or 0,
            )
            for s in row.get("similar_anime") or ()
        ),
    )


_FORMS: dict[str, Callable[[Mapping[str, Any]], ShowDoc]] = {
    "AnimeID": _from_shoko,
    "aid": _from_anidb,
    "mal_id": _from_mal,
    "id": _from_own,
}


def _creators(row: Mapping[str, Any], work: str) -> tuple[str, ...]:
    return _texts([c.get("name") for c in row.get("creators") or () if c.get("type") == work])


def _required(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if value is None or str(value).strip() == "":
        raise ValueError(f"{key} is empty")
    return str(value).strip()


def _text(value: Any) -> str:
    return clean_text(str(value)) if value is not None else ""


def _texts(values: Any) -> tuple[str, ...]:
    if isinstance(values, str):
        values = [values]
    return tuple(text for value in values or () if (text := _text(value)))


def _split(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_texts(str(value).split("|")))) if value else ()


def _whole(value: Any) -> int | None:
    if value in (None, ""):
        return None
    return int(float(value))


def _number(value: Any) -> float | None:
    if value in (None, ""):
        return None
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number")
    return number


def _rating_of_1000(value: Any) -> float | None:
    rating = _number(value)
    return None if rating is None else round(rating / 100, 2)


def _date(value: Any) -> str:
    text = _text(value)
    return text[:10] if re.match(r"(?!0000)\d{4}-\d{2}-\d{2}", text) else ""


def _year(value: Any) -> int | None:
    date = _date(value)
    return int(date[:4]) if date else None


def _json_list(value: Any) -> list[dict[str, Any]]:
    """Shoko keeps relations as a JSON string inside the JSON."""
    if isinstance(value, str):
        value = orjson.loads(value) if value.strip() else []
    return [entry for entry in value or [] if isinstance(entry, dict)]


def _anidb_text(value: Any) -> str:
    return _ANIDB_LINK.sub(r"\1", _text(value))


def _without_credit(text: str) -> str:
    return re.sub(r"\s*(\[Written by [^\]]*\]|\(Source: [^)]*\))\s*$", "", text)
