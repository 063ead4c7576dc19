"""Indonesian law: one document a Pasal, read from rows or from the plain text of statutes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from rag_lab.corpora.files import clean_text, read_json_lines, read_whole
from rag_lab.corpora.statute import Article, definition_items, split_ayat, split_statute
from rag_lab.errors import Rejection

if TYPE_CHECKING:
    from llama_index.core.schema import Document

HEADER_KEYS = ("law", "title", "bab", "pasal_label")
"""Metadata searched together with the body."""

_KEY = re.compile(r"(?P<kind>[a-z]+)-(?P<year>\d{4})-(?P<number>[0-9A-Za-z]+)")
_NAMED_CODES = {"kuhperdata": "KUHPerdata", "uud-1945": "UUD 1945", "kuhp": "KUHP"}


@dataclass(frozen=True, slots=True)
class Pasal:
    """One article of a law: its place, its body, and its explanation apart from the body."""

    id: str
    doc: str
    law: str
    title: str
    pasal: str
    text: str
    bab: str = ""
    ayat: tuple[tuple[str, str], ...] = ()
    penjelasan: str = ""
    kind: str = "pasal"
    restated: bool = False

    @property
    def citation(self) -> str:
        """How a lawyer would name it: `Pasal 7 UU 40/2007`."""
        return f"Pasal {self.pasal} {self.law}"

    def to_document(self, file: str, line: int) -> Document:
        """The article as a LlamaIndex document."""
        from llama_index.core.schema import Document

        metadata = {
            "record": "pasal",
            "doc": self.doc,
            "law": self.law,
            "title": self.title,
            "bab": self.bab,
            "pasal": self.pasal,
            "pasal_label": f"Pasal {self.pasal}",
            "citation": self.citation,
            "kind": self.kind,
            "ayat": [number for number, _ in self.ayat],
            "penjelasan": self.penjelasan,
            "restated": self.restated or None,
            "source_file": file,
            "source_line": line,
        }
        known = {key: value for key, value in metadata.items() if value not in (None, "", [])}
        return Document(
            id_=self.id,
            text=self.text,
            metadata=known,
            excluded_embed_metadata_keys=[key for key in known if key not in HEADER_KEYS],
        )


def read_law(path: Path) -> Iterator[Document | Rejection]:
    """Reads articles from JSON lines: rows with `id`, `doc`, `pasal`, `text` and more."""
    return _read(path, _pasal_of_row)


def read_law_text(path: Path) -> Iterator[Document | Rejection]:
    """Reads whole statutes and splits them into articles.

    JSON lines hold one statute a row (`doc`, `text`, and `type`, `number`, `year`, `title` where
    known). A `.txt` file is one statute, named by its file name, e.g. `uu-2007-40.txt`.
    """
    if _is_plain(path):
        yield from _documents(_articles_of_file(path), path.name, 1)
        return
    yield from _read(path, _articles_of_row)


def read_provisions(path: Path) -> Iterator[Document | Rejection]:
    """Reads articles from one JSON list with the fields of Indonesian legal databases.

    Fields: `jenis_dokumen`, `nomor`, `tahun`, `judul`, `tentang`, `bab`, `pasal`, `text`. Ids
    follow the other readers: `uu-2007-40#pasal-7`, with `.2` and on for further pieces of one.
    """
    content = read_whole(path)
    if isinstance(content, Rejection):
        yield content
        return
    try:
        rows = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        yield Rejection(path.name, 1, f"malformed JSON: {error}")
        return
    if not isinstance(rows, list):
        yield Rejection(path.name, 1, f"expected a JSON list, got {type(rows).__name__}")
        return
    seen: Counter[str] = Counter()
    for number, row in enumerate(rows, 1):
        try:
            pasal = _pasal_of_provision(row, seen)
        except (KeyError, TypeError, ValueError) as error:
            yield Rejection(path.name, number, f"missing or unusable field: {error}")
            continue
        yield pasal.to_document(path.name, number)


def _pasal_of_provision(row: Mapping[str, Any], seen: Counter[str]) -> Pasal:
    doc = f"{row['jenis_dokumen']}-{row['tahun']}-{row['nomor']}".lower().replace(" ", "")
    record_id = f"{doc}#pasal-{row['pasal']}"
    seen[record_id] += 1
    text = clean_text(str(row["text"]))
    titles = (clean_text(str(row.get(key) or "")) for key in ("judul", "tentang"))
    return Pasal(
        id=record_id if seen[record_id] == 1 else f"{record_id}.{seen[record_id]}",
        doc=doc,
        law=f"{row['jenis_dokumen']} {row['nomor']}/{row['tahun']}",
        title=" — ".join(dict.fromkeys(title for title in titles if title)),
        pasal=str(row["pasal"]),
        text=text,
        bab=f"BAB {row['bab']}" if row.get("bab") else "",
        ayat=tuple(split_ayat(text)),
    )


def _read(
    path: Path, make: Callable[[Mapping[str, Any]], list[Pasal]]
) -> Iterator[Document | Rejection]:
    for item in read_json_lines(path):
        if isinstance(item, Rejection):
            yield item
            continue
        number, row = item
        try:
            made: list[Pasal] | str = make(row)
        except KeyError as error:
            made = f"missing field {error}"
        except (TypeError, ValueError) as error:
            made = f"unusable value: {error}"
        yield from _documents(made, path.name, number, str(row.get("id") or row.get("doc") or ""))


def _documents(
    made: list[Pasal] | str, file: str, line: int, record_id: str = ""
) -> Iterator[Document | Rejection]:
    if isinstance(made, str):
        yield Rejection(file, line, made, record_id)
    elif not made:
        yield Rejection(file, line, "no Pasal found in the text", record_id)
    else:
        yield from (pasal.to_document(file, line) for pasal in made)


def _pasal_of_row(row: Mapping[str, Any]) -> list[Pasal]:
    text, number = clean_text(str(row["text"] or "")), str(row["pasal"])
    section = "penjelasan" if row.get("section") in ("explanation", "penjelasan") else "pasal"
    given = [(str(n), clean_text(str(t))) for n, t in row.get("ayat") or ()]
    record_id, doc = str(row["id"] or "").strip(), str(row["doc"] or "").strip()
    if not record_id or not doc:
        raise ValueError("id and doc must not be empty")
    return [
        Pasal(
            id=record_id,
            doc=doc,
            law=str(row.get("law") or law_name(doc)),
            title=clean_text(str(row.get("title") or "")),
            bab=clean_text(str(row.get("bab") or "")),
            pasal=number,
            text=text,
            ayat=tuple(given or split_ayat(text)),
            penjelasan=clean_text(str(row.get("penjelasan") or "")),
            kind=str(row.get("kind") or section),
            restated=row.get("source_kind") == "restatement",
        )
    ]


def _articles_of_row(row: Mapping[str, Any]) -> list[Pasal]:
    doc = str(row["doc"] or "").strip()
    if not doc:
        raise ValueError("doc must not be empty")
    return _articles(doc, str(row.get("title") or ""), str(row["text"] or ""))


def _is_plain(path: Path) -> bool:
    return Path(path.name.removesuffix(".gz")).suffix in (".txt", ".md")


def _articles_of_file(path: Path) -> list[Pasal] | str:
    content = read_whole(path)
    if isinstance(content, Rejection):
        return content.reason
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start})"
    doc = path.name.split(".")[0].lower()
    return _articles(doc, _title_in(text), text)


def _articles(doc: str, title: str, text: str) -> list[Pasal]:
    law, named = law_name(doc), clean_text(title)
    if named.isupper():
        named = named.title()
    articles = split_statute(text).articles
    # An amending article that was split into the articles it amends holds their text once more.
    split = {article.parent for article in articles if article.kind == "perubahan"}
    return [
        _pasal_of_article(article, doc, law, named)
        for article in articles
        if article.kind == "perubahan" or article.number not in split
    ]


def _pasal_of_article(article: Article, doc: str, law: str, title: str) -> Pasal:
    return Pasal(
        id=f"{doc}#{article.key}",
        doc=doc,
        law=law,
        title=title,
        bab=article.bab,
        pasal=article.number,
        text=article.text,
        ayat=article.ayat,
        penjelasan=article.explanation,
        kind=article.kind,
    )


def _title_in(text: str) -> str:
    match = re.search(r"(?is)\bTENTANG\s+(.{3,200}?)\s*(?:\n\s*\n|DENGAN RAHMAT|Menimbang)", text)
    return re.sub(r"\s+", " ", match.group(1)) if match else ""


def law_name(doc: str) -> str:
    """The short name of a law from its document key: `uu-2007-40` → `UU 40/2007`."""
    match = _KEY.fullmatch(doc)
    if not match:
        return _NAMED_CODES.get(doc, doc.upper())
    return f"{match['kind'].upper()} {match['number'].upper()}/{match['year']}"


def child_passages(document: Document) -> list[tuple[str, str, str]]:
    """Parts of an article that deserve an entry of their own in the index.

    Returns:
        (suffix of the child's id, term, text) for each definition of an opening article.
        Whole-article chunks lose them: a Pasal 1 may define eighty terms.
    """
    if document.metadata.get("pasal") != "1":
        return []
    return [(f"def-{number}", term, text) for number, term, text in definition_items(document.text)]
