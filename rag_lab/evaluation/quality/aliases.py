"""Shows found by a name: by one that the index does not hold, by one said inside a question."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import numpy as np

from rag_lab.corpora import load_corpus
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.quality.figures import Figure, Figures, split_figures
from rag_lab.evaluation.ranking import Ranking, score_ranking
from rag_lab.index.keyword import KeywordIndex
from rag_lab.records import Question
from rag_lab.retrieval.alias import AliasIndex
from rag_lab.retrieval.alias.names import has_cjk

Names: TypeAlias = "list[tuple[str, str]]"
Rank: TypeAlias = Callable[[str], list[tuple[str, float]]]

FRAMES = (
    "what studio made {}?",
    "How many episodes does {} have?",
    "When did {} air, and is it an original story?",
    "who is the main character of {}",
    "Is {} based on a manga?",
    "{} - which year is it from?",
)
LOWER_CASE_FRAMES = (FRAMES[0], FRAMES[3])
MANY_ALIASES = 50_000
TIMED_QUESTIONS = 400
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Names for the index, and one name of each show that is asked for and not among them."""

    kept: Names
    questions: list[Question]


async def aliases(figures: Figures, cache: Path) -> None:
    """Held-out names, names in questions, questions without a name, and what 50,000 names cost.

    The names of a show that are the same letters and digits (NFKC, case folded) are one. Of a show
    with two or more, in their order, number `sha256("held out <document id>") mod n` is taken out
    of the index in all its spellings and asked for; the show is the only right answer.
    """
    await asyncio.to_thread(_measure, figures)


def _measure(figures: Figures) -> None:
    documents = list(load_corpus("anime_mal_tv").documents)
    names = [(d.id_, name) for d in documents for name in d.metadata["titles"]]
    held_out = hold_out(names)
    systems: dict[str, Rank] = {
        "character trigrams": trigram_ranker(held_out.kept),
        "alias index": AliasIndex.build(held_out.kept).rank,
    }
    for name, questions in question_sets(held_out.questions).items():
        _compare(name, questions, systems, figures)
    index = AliasIndex.build(names)
    _said_names(index, names, figures)
    _unnamed(index, {d.id_: d.text for d in documents}, figures)
    _cost(names, figures)


def hold_out(names: Iterable[tuple[str, str]]) -> HeldOut:
    """Takes one name of each show out, chosen by a hash of its id; see `aliases`."""
    shows: dict[str, dict[str, list[str]]] = {}
    for document_id, name in names:
        if plain := _plain(name):
            shows.setdefault(document_id, {}).setdefault(plain, []).append(name)
    kept: Names = []
    questions: list[Question] = []
    for document_id, spellings in shows.items():
        if len(spellings) > 1:
            chosen = list(spellings)[_hashed(f"held out {document_id}") % len(spellings)]
            asked = spellings.pop(chosen)[0]
            questions.append(
                Question(f"alias-{document_id}", asked, "alias", relevant_ids=(document_id,))
            )
        kept += [(document_id, name) for written in spellings.values() for name in written]
    return HeldOut(kept, questions)


def question_sets(questions: Sequence[Question]) -> dict[str, list[Question]]:
    """Latin and CJK names, each alone and in a frame."""
    sets: dict[str, list[Question]] = {}
    for question in questions:
        script = "cjk" if has_cjk(question.text) else "latin"
        sets.setdefault(f"alias-{script}", []).append(question)
        asked = Question(question.id, framed(question), "alias", relevant_ids=question.relevant_ids)
        sets.setdefault(f"alias-{script}-framed", []).append(asked)
    return sets


def framed(question: Question) -> str:
    """The name in one of six questions, chosen by a hash of the id; two are all in lower case."""
    frame = FRAMES[_hashed(f"frame {question.id}") % len(FRAMES)]
    name = question.text.lower() if frame in LOWER_CASE_FRAMES else question.text
    return frame.format(name)


def trigram_ranker(names: Iterable[tuple[str, str]]) -> Rank:
    """The baseline: BM25 on character trigrams, one entry a document."""
    entries: dict[str, list[str]] = {}
    for document_id, name in names:
        entries.setdefault(document_id, []).extend(_trigrams(name))
    ids = list(entries)
    index = KeywordIndex.build(entries.values(), k1=1.2, b=0.75)
    return lambda text: [(ids[place], score) for place, score in index.search(_trigrams(text), 10)]


def _trigrams(text: str) -> list[str]:
    edged = f" {unicodedata.normalize('NFKC', text).casefold()} "
    return [edged[i : i + 3] for i in range(len(edged) - 2)]


def _compare(
    name: str, questions: Sequence[Question], systems: dict[str, Rank], figures: Figures
) -> None:
    qrels = {q.id: dict.fromkeys(q.relevant_ids, 1) for q in questions}
    for system, rank in systems.items():
        ranking = Ranking({q.id: dict(rank(q.text)) for q in questions})
        table = score_ranking(ranking, qrels, ["RR@10", "P@1"])
        figures.rows += split_figures(name, system, table, questions)
    baseline = figures.value(name, "character trigrams", "RR@10")
    ours = figures.value(name, "alias index", "RR@10")
    gain = round(ours - baseline, 4)
    figures.bars.append(Bar(f"{name}: MRR@10 above character trigrams", gain, 0.05, ">="))


def _said_names(index: AliasIndex, names: Names, figures: Figures) -> None:
    """The last name of each show, in a frame, as written and with two letters swapped."""
    by_show: dict[str, list[str]] = {}
    for document_id, name in names:
        by_show.setdefault(document_id, []).append(name)
    said = [
        Question(f"alias-{document_id}", written[-1], "alias", relevant_ids=(document_id,))
        for document_id, written in by_show.items()
    ]
    typed = [
        Question(q.id, swapped(q.text), "alias", relevant_ids=q.relevant_ids)
        for q in said
        if len(_plain(q.text)) > 7 and not has_cjk(q.text)
    ]
    for measure, questions in (("name found", said), ("name with a typo found", typed)):
        _share(
            measure,
            {q: any(q.relevant_ids[0] in h.document_ids for h in index.find(framed(q)))
             for q in questions},
            figures,
        )  # fmt: skip


def swapped(name: str) -> str:
    """The name with two neighbouring letters swapped, somewhere behind the first."""
    places = [
        i for i in range(1, len(name) - 1) if name[i : i + 2].isalpha() and name[i] != name[i + 1]
    ]
    if not places:
        return name
    place = places[_hashed(f"swap {name}") % len(places)]
    return name[:place] + name[place + 1] + name[place] + name[place + 2 :]


def _unnamed(index: AliasIndex, texts: dict[str, str], figures: Figures) -> None:
    """Questions on a plot, and synopsis sentences: in how many the index finds no other show.

    Some sentences do name another show or a hero that a show is called by.
    """
    plots = [q for q in load_corpus("anime").questions if q.kind == "plot"]
    _share("no name in a plot question", {q: not index.find(q.text) for q in plots}, figures)
    sentences = [
        (Question(f"alias-{document_id}", sentence), document_id)
        for document_id, text in texts.items()
        for sentence in _SENTENCE_END.split(text.rpartition("\n")[0])
        if 30 <= len(sentence) < 300
    ][::4]
    quiet = {
        question: all(document_id in hit.document_ids for hit in index.find(question.text))
        for question, document_id in sentences
    }
    _share("no other show in a synopsis sentence", quiet, figures)


def _share(measure: str, holds: dict[Question, bool], figures: Figures) -> None:
    def mean(split: str | None = None) -> float:
        chosen = [float(held) for q, held in holds.items() if split in (None, q.split)]
        return round(statistics.fmean(chosen), 4)

    figures.rows.append(
        Figure(
            "alias-find",
            "alias index",
            measure,
            mean(),
            dev=mean("dev"),
            held_out=mean("held_out"),
            n=len(holds),
        )
    )


def _cost(names: Names, figures: Figures) -> None:
    """Building and asking an index of 50,000 names: the real ones, again with made-up volumes.

    Time is the CPU time of this thread, so that a busy machine does not count.
    """
    many = [
        (f"{document_id}-{volume}", f"{name} Vol{volume}" if volume else name)
        for volume in range(-(-MANY_ALIASES // len(names)))
        for document_id, name in names
    ][:MANY_ALIASES]
    started = time.thread_time()
    index = AliasIndex.build(many)
    build_s = time.thread_time() - started
    asked = [twelve_words(name) for _, name in names[:: len(names) // TIMED_QUESTIONS]]
    costs = {
        "build CPU s": build_s,
        "find p95 CPU ms": _p95_ms(index.find, asked),
        "rank p95 CPU ms": _p95_ms(index.rank, asked),
    }
    for measure, value in costs.items():
        row = Figure("alias-cost", "alias index", measure, round(value, 2), n=len(many))
        figures.rows.append(row)
        figures.bars.append(Bar(f"50,000 aliases, {measure}", round(value, 2), 5, "<="))


def twelve_words(name: str) -> str:
    """A misspelt name in a question of twelve words."""
    words = f"what studio made {swapped(name)} and in which year did it air on tv".split()
    return " ".join(words[:12])


def _p95_ms(ask: Callable[[str], object], questions: Sequence[str]) -> float:
    times = []
    for question in questions:
        started = time.thread_time()
        ask(question)
        times.append(time.thread_time() - started)
    return float(np.percentile(times, 95)) * 1e3


def _plain(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(character for character in folded if character.isalnum())


def _hashed(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big")
