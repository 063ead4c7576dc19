"""Candidates by templates: drawn under a seed, near-duplicates left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from rag_lab.corpora import Corpus
from rag_lab.corpora.analysis import Analyzer
from rag_lab.errors import CorpusError
from rag_lab.evaluation.candidates.candidate import Candidate, Kind, Provenance, candidate
from rag_lab.evaluation.candidates.drafts import Draft, drawn_by
from rag_lab.evaluation.candidates.laws import law_drafts
from rag_lab.evaluation.candidates.titles import LANGUAGES, title_drafts

_SPARE = 3
"""Citations are made up to so many times the wanted number, since some turn out alike."""
_ALIKE = 0.8


class Distinct:
    """Tells whether a question asks the same as one before it of its kind.

    Two do if they hold the same numbers, and share at least 80 % of the stems of both. A comparison
    of two things and a question for both may share all of theirs.

    Args:
        language: of the questions.
        known: questions that are there already.
    """

    def __init__(self, language: str, known: Iterable[str] = ()) -> None:
        self._analyzer = Analyzer(language)
        self._seen: dict[frozenset[str], list[frozenset[str]]] = defaultdict(list)
        for text in known:
            self.add(text)

    def add(self, text: str) -> bool:
        """Takes a question in, unless it asks the same as one before; returns whether it did."""
        stems = frozenset(self._analyzer.tokens(text))
        numbers = frozenset(stem for stem in stems if any(map(str.isdigit, stem)))
        others = self._seen[numbers]
        if any(len(stems & other) >= _ALIKE * len(stems | other) for other in others):
            return False
        others.append(stems)
        return True


def template_candidates(corpus: Corpus, *, per_kind: int = 20, seed: int = 0) -> list[Candidate]:
    """Candidates made by templates, without a model: for a seed always the same ones.

    Questions that the corpus has already, and near-duplicates of one kind, are left out. Reads all
    of the corpus, some of it several times: about 1 s for 1,000 articles of law.

    Args:
        corpus: of law, or of documents with titles (which have no citations).
        per_kind: at most so many of each kind.
        seed: decides the draw.

    Raises:
        CorpusError: there are no templates for its language, or nothing in it that they ask of.
    """
    drafts = _drafts(corpus, per_kind * _SPARE, seed)
    known = [question.text for question in corpus.questions]
    made: list[Candidate] = []
    for offered in drafts.values():
        distinct = Distinct(corpus.language, known)
        ranked = sorted(offered, key=lambda draft: drawn_by(seed, draft.question.text))
        made += islice(_kept(ranked, distinct, corpus, seed), per_kind)
    if not made:
        raise CorpusError(
            f"{corpus.name} has nothing that templates could ask of and that is not asked yet: no "
            "definitions or statutes of law, no titles. "
            "Configure a chat model (RAG_LAB_LLM_MODEL) and use written_candidates."
        )
    return made


def _drafts(corpus: Corpus, count: int, seed: int) -> Mapping[Kind, Sequence[Draft]]:
    first = next(corpus.documents, None)
    if first is not None and first.metadata.get("record") == "pasal":
        return law_drafts(corpus, count, seed)
    if corpus.language not in LANGUAGES:
        raise CorpusError(
            f"there are no templates for language {corpus.language!r} of {corpus.name}; there are "
            f"for {', '.join(LANGUAGES)}. Configure a chat model (RAG_LAB_LLM_MODEL) and use "
            "written_candidates."
        )
    return title_drafts(corpus, seed)


def _kept(
    ranked: Iterable[Draft], distinct: Distinct, corpus: Corpus, seed: int
) -> Iterator[Candidate]:
    for draft in ranked:
        if distinct.add(draft.question.text):
            made_from = draft.made_from or draft.question.relevant_ids
            told = Provenance(corpus.fingerprint, made_from, template=draft.template, seed=seed)
            yield candidate(draft.question, told)
