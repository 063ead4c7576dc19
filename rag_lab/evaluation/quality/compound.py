"""Compound questions asked whole and in parts, and single questions, which must stay whole.

The compound set is made of `law_id_core` and of questions whose gold is there, so that both gold
articles of a question are known. Single questions on one statute are, for a start,

- the bundled ones and those of `questions_core`, without citations, which are looked up rather than
  searched;
- of every statute two terms that its Pasal 1 defines ("Apa definisi X?"), and two aspects of such
  terms: task, power, purpose, principle or function, where exactly one other article begins with
  the term and says so ("Apa tugas X?").

Two kinds are made of them:

- *joined*: the singles of a statute stand in a ring by the hash of their ids, and neighbours whose
  gold is disjoint are joined: with "dan", "serta" or "lalu", as two sentences, or with the statute
  named once, at the beginning or at the end.
- *ellipsis*: one such aspect of a statute, asked with the definition of its term and pointing back
  to it: "Apa definisi X dan apa saja tugasnya?".

A question is found if the first ten documents hold a gold one of each half. It is not asked of
the rules what they make of a question, only whether more is found with it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from rag_lab.asking.decompose import Decomposer, RuleDecomposer
from rag_lab.asking.parts import PartsRetriever
from rag_lab.corpora import Corpus, list_corpora, load_corpus
from rag_lab.corpora.files import read_json_lines
from rag_lab.errors import Rejection
from rag_lab.evaluation.bars import Bar
from rag_lab.evaluation.compare import Comparison
from rag_lab.evaluation.quality.figures import Figures, split_figures
from rag_lab.evaluation.quality.indexes import indexed
from rag_lab.evaluation.ranking import MeasureTable, Ranking, rank_questions
from rag_lab.records import Part, Question
from rag_lab.retrieval import HybridRetriever
from rag_lab.settings import PathSettings

if TYPE_CHECKING:
    from llama_index.core.schema import Document

BOTH = "both gold in the top 10"
WHOLE = "left whole"
_TOP = 10
_OF_A_STATUTE = 2
_LAW_PHRASE = re.compile(
    r",?\s*\b(?i:menurut|dalam|di|berdasarkan)\s+(?:UU|KUHPerdata|KUHP|UUD)\b"
    r"(?:\s+(?:No(?:mor|\.)\s*)?\d[\w/]*(?:\s+Tahun\s+\d{4})?|\s+baru|\s+tentang|\s+[A-Z]\w*)*,?\s*"
)
_DEFINED = re.compile(
    r"^\s*\d+\.\s+(?P<term>[A-Z][^.;:\n]{2,60}?)"
    r"(?:,?\s+(?:yang\s+)?selanjutnya\s+di(?:sebut|singkat)[^.;\n]{0,60}?)?\s+adalah\s",
    re.MULTILINE,
)
_ABOUT: dict[str, str] = {
    "tugas": "mempunyai tugas|bertugas",
    "wewenang": "mempunyai wewenang|berwenang",
    "tujuan": "bertujuan",
    "fungsi": "mempunyai fungsi|berfungsi",
    "asas": "berasaskan|(?:diselenggarakan|dilaksanakan) berdasarkan asas",
}
_ELLIPSES = (
    "Apa definisi {term} dan apa saja {aspect}nya menurut {law}?",
    "Menurut {law}, apa itu {term} dan apa {aspect}nya?",
    "Apa yang dimaksud dengan {term} dalam {law}, serta apa {aspect}nya?",
    "Apa pengertian dan {aspect} {term} menurut {law}?",
)


async def compound(figures: Figures, cache: Path) -> None:
    """Compound questions, whole and in parts, and how many single ones stay whole."""
    corpus = load_corpus("law_id_core")
    asked = compound_questions(corpus, [*load_corpus("law_id").questions, *corpus.questions])
    with closing(await indexed(corpus, cache)) as index:
        whole = HybridRetriever(index)
        parts = PartsRetriever(whole, RuleDecomposer("id"))
        rankings = {
            "whole": await rank_questions(whole, asked),
            "in parts": await rank_questions(parts, asked),
        }
    tables = {name: both_found(ranking, asked) for name, ranking in rankings.items()}
    for name, table in tables.items():
        figures.rows += split_figures("compound", name, table, asked)
    gap = Comparison("compound", "whole", tables, rankings).difference("in parts", BOTH)
    figures.bars += [
        Bar("compound: both gold found, in parts against whole", round(gap.mean, 4), 0.10, ">="),
        Bar("compound: p of that difference", round(gap.p_value, 4), 0.01, "<="),
    ]
    await _single(figures)


def both_found(ranking: Ranking, questions: Iterable[Question]) -> MeasureTable:
    """For each question 1 if a gold document of each of its parts is in the top 10, else 0."""
    scores: dict[str, float] = {}
    for question in questions:
        if question.id in ranking.run:
            found = set(list(ranking.run[question.id])[:_TOP])
            scores[question.id] = float(all(found & {*p.relevant_ids} for p in question.parts))
    failed = len(ranking.failed)
    return MeasureTable({BOTH: scores}, attempted=len(scores) + failed, failed=failed)


def compound_questions(corpus: Corpus, singles: Iterable[Question]) -> list[Question]:
    """The compound set: what is joined of single questions, and what has an ellipsis."""
    statutes: dict[str, list[Document]] = defaultdict(list)
    for document in corpus.documents:
        statutes[str(document.metadata["doc"])].append(document)
    pools = _by_statute(statutes, singles)
    asked: list[Question] = []
    for statute, articles in statutes.items():
        law = str(articles[0].metadata["law"])
        aspects = sorted(_aspects(articles), key=_hash)[:_OF_A_STATUTE]
        definitions = sorted(_definitions(articles), key=_hash)[:_OF_A_STATUTE]
        asked += _ring([*pools[statute], *definitions, *aspects], law)
        asked += [_ellipsis(each, _first(articles).id_, law) for each in aspects[:1]]
    return asked


def _hash(question: Question) -> str:
    return sha256(question.id.encode()).hexdigest()


def _chosen(key: str, ways: int) -> int:
    """The same way for the same key, each about as often."""
    return int(sha256(f"way {key}".encode()).hexdigest(), 16) % ways


def _by_statute(
    statutes: Mapping[str, Sequence[Document]], singles: Iterable[Question]
) -> dict[str, list[Question]]:
    """The single questions by the statute that all their gold is of, each once."""
    statute_of = {each.id_: doc for doc, articles in statutes.items() for each in articles}
    pools: dict[str, list[Question]] = defaultdict(list)
    for question in {question.id: question for question in singles}.values():
        gold = {statute_of.get(key, "") for key in question.relevant_ids}
        usable = is_single(question) and question.kind != "citation"
        if len(gold) == 1 and "" not in gold and usable:
            pools[gold.pop()].append(question)
    return pools


def _ring(pool: Sequence[Question], law: str) -> Iterator[Question]:
    ring = sorted(pool, key=_hash)
    # A ring of two would join the same two twice.
    neighbours = zip(ring, ring[1:] if len(ring) == 2 else ring[1:] + ring[:1], strict=False)
    for first, second in neighbours:
        if not {*first.relevant_ids} & {*second.relevant_ids}:
            yield _join(first, second, law)


def is_single(question: Question) -> bool:
    """Whether a question asks one thing, by its gold: no parts, and at most one statute."""
    return not question.parts and len(question.relevant_groups) < 2


def _join(first: Question, second: Question, law: str) -> Question:
    key = f"compound-{first.id}-{second.id}"
    return Question(
        id=key,
        text=_way(key, second)(first.text, second.text, law),
        kind="joined",
        relevant_ids=(*first.relevant_ids, *second.relevant_ids),
        parts=tuple(Part(each.text, each.relevant_ids) for each in (first, second)),
    )


def _way(key: str, second: Question) -> _Way:
    """One of the ways to join that reads naturally for the two."""
    several = any(mark in _open(second.text) for mark in (". ", "? "))
    ways = _SENTENCES if several else _SENTENCES + _CLAUSES + _LAW_ONCE
    return ways[_chosen(key, len(ways))]


def _open(text: str) -> str:
    return text.strip().rstrip("?. ")


def _lower(text: str) -> str:
    """The first letter small, unless it begins a name or an abbreviation."""
    first = text.split(maxsplit=1)[0]
    return text if first[1:2].isupper() or first == "Pasal" else text[:1].lower() + text[1:]


def _without_law(text: str) -> str:
    return _open(_LAW_PHRASE.sub(" ", _open(text)))


_Way = Callable[[str, str, str], str]
_SENTENCES: tuple[_Way, ...] = (
    lambda a, b, law: f"{_open(a)}? Lalu {_lower(_open(b))}?",
    lambda a, b, law: f"{_open(a)}? {_open(b)}?",
)
_CLAUSES: tuple[_Way, ...] = (
    lambda a, b, law: f"{_open(a)} dan {_lower(_open(b))}?",
    lambda a, b, law: f"{_open(a)}, serta {_lower(_open(b))}?",
)
_LAW_ONCE: tuple[_Way, ...] = (
    lambda a, b, law: f"Menurut {law}, {_lower(_without_law(a))} dan {_lower(_without_law(b))}?",
    lambda a, b, law: f"{_without_law(a)}, dan {_lower(_without_law(b))} menurut {law}?",
)


def _first(articles: Sequence[Document]) -> Document:
    return next(each for each in articles if each.metadata.get("pasal") == "1")


def _definitions(articles: Sequence[Document]) -> Iterator[Question]:
    for term, article in _defined(articles):
        law = article.metadata["law"]
        text = f"Apa definisi {term} menurut {law}?"
        yield Question(f"{article.id_}-{term}", text, "definition", relevant_ids=(article.id_,))


def _aspects(articles: Sequence[Document]) -> Iterator[Question]:
    """What one article says of a defined term; `kind` is the aspect, `answer` the term."""
    for term, first in _defined(articles):
        for aspect, says in _ABOUT.items():
            begins = re.compile(rf"\s*(?:\(1\)\s+)?{re.escape(term)}\s+(?:{says})\b")
            about = [each.id_ for each in articles if each is not first and begins.match(each.text)]
            if len(about) == 1:
                text = f"Apa {aspect} {term} menurut {first.metadata['law']}?"
                yield Question(f"{about[0]}-{aspect}-{term}", text, aspect, term, (about[0],))


def _defined(articles: Sequence[Document]) -> Iterator[tuple[str, Document]]:
    """The terms that Pasal 1 of a statute defines, with that article."""
    firsts = [each for each in articles if each.metadata.get("pasal") == "1"]
    for article in firsts[:1]:
        for term in dict.fromkeys(found["term"] for found in _DEFINED.finditer(article.text)):
            yield term, article


def _ellipsis(aspect: Question, defined: str, law: str) -> Question:
    key = f"compound-ellipsis-{aspect.id}"
    term = aspect.answer
    pattern = _ELLIPSES[_chosen(key, len(_ELLIPSES))]
    definition = Part(f"Apa definisi {term} menurut {law}?", (defined,))
    return Question(
        id=key,
        text=pattern.format(term=term, aspect=aspect.kind, law=law),
        kind="ellipsis",
        relevant_ids=(defined, *aspect.relevant_ids),
        parts=(definition, Part(aspect.text, aspect.relevant_ids)),
    )


async def _single(figures: Figures) -> None:
    """How many single questions the rules leave whole, by language.

    A question is single if its gold has no parts and names at most one statute. The questions
    without parts whose gold names two are comparisons of two laws: their own figure has no bar.
    """
    for language in ("en", "id"):
        rules = RuleDecomposer(language)
        asked = [q for q in _without_parts(language) if is_single(q)]
        of_two = [q for q in _without_parts(language) if not is_single(q)]
        for name, questions in (("single", asked), ("two statutes, no parts", of_two)):
            if questions:
                table = await left_whole(rules, questions)
                figures.rows += split_figures(f"{name} ({language})", "rules", table, questions)
        whole = figures.value(f"single ({language})", "rules", WHOLE)
        figures.bars.append(Bar(f"single questions left whole ({language})", whole, 0.97, ">="))


async def left_whole(decomposer: Decomposer, questions: Iterable[Question]) -> MeasureTable:
    """For each question 1 if it was left in one part, else 0."""
    scores = {q.id: float((await decomposer.decompose(q.text)).whole) for q in questions}
    return MeasureTable({WHOLE: scores}, attempted=len(scores))


def _without_parts(language: str) -> list[Question]:
    """The questions of a language whose gold has no parts, each once, of the corpora here."""
    here = {entry.name for entry in list_corpora()}
    corpora = ["anime"] if language == "en" else ["law_id", "law_id_core", "law_id_qa_omnibus"]
    asked = [q for name in corpora if name in here for q in load_corpus(name).questions]
    if language == "id":
        asked += _small_questions(PathSettings().data_folder / "law_id_qa_small/questions.jsonl.gz")
    return list({q.id: q for q in asked if not q.parts}.values())


def _small_questions(path: Path) -> list[Question]:
    """Questions of a set that has no corpus of its own; none if it is not here."""
    rows = read_json_lines(path) if path.is_file() else ()
    return [
        Question(str(item[1]["qid"]), str(item[1]["question"]))
        for item in rows
        if not isinstance(item, Rejection)
    ]
