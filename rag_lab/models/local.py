"""The offline embedder: latent semantic analysis of the corpus itself.

TF-IDF with sublinear term frequency, then truncated SVD (Deerwester et al., *Indexing by Latent
Semantic Analysis*, 1990). It needs no download and no key; it knows only words the corpus holds.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import PrivateAttr

from rag_lab.corpora.analysis import Analyzer
from rag_lab.errors import IndexStateError
from rag_lab.gateway import BatchLimits, Embedded
from rag_lab.settings import fingerprint_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LSA_VERSION = 1
"""Raised when the same texts give another fit: fits of an earlier version are not used."""
_MIN_DOCUMENTS = 1
"""Names of shows and terms of laws stand in one node only: without them dense search is blind."""
_OVERSAMPLE = 10
_HEADING_SHARE = 0.7
"""Weight of a text's heading line against the rest; chosen on development questions."""
HEADING_SEPARATOR = " | "
LSA_LIMITS = BatchLimits(items=256, tokens=2_000_000, size_bytes=8_000_000)
"""Bounds what a batch needs in memory; there is no request that could be too large."""
LSA_CONCURRENCY = 2
_COMPUTING = threading.Lock()
"""Held while a batch is computed: more threads at it would only fight for the interpreter."""
_NO_KNOWN_WORD = "zero vector: the embedder knows none of its words (keyword search finds it)"


class LsaEmbedder(BaseEmbedding):
    """Unit float32 vectors by TF-IDF and truncated SVD, fitted on one corpus.

    The first line of a text of several lines is its heading and makes up a fixed share of the
    vector, so that a long body does not drown what a passage is called. A text without any known
    word gets the zero vector: it matches nothing.
    """

    _analyzer: Analyzer = PrivateAttr()
    _vocabulary: dict[str, int] = PrivateAttr()
    _idf: np.ndarray = PrivateAttr()
    _term_vectors: np.ndarray = PrivateAttr()
    _known: np.ndarray = PrivateAttr()
    _fitted: Mapping[int, int] = PrivateAttr(default_factory=dict)
    _fitted_rows: csr_matrix | None = PrivateAttr(default=None)

    def __init__(
        self,
        analyzer: Analyzer,
        vocabulary: Sequence[str],
        idf: np.ndarray,
        term_vectors: np.ndarray,
        known: np.ndarray,
        fit_id: str,
    ) -> None:
        super().__init__(model_name=f"lsa-{fit_id}", embed_batch_size=LSA_LIMITS.items)
        self._analyzer = analyzer
        self._vocabulary = {token: place for place, token in enumerate(vocabulary)}
        self._idf = idf
        self._term_vectors = term_vectors
        self._known = known

    @classmethod
    def class_name(cls) -> str:
        return "LsaEmbedder"

    @property
    def fit_id(self) -> str:
        """Names the texts and parameters of the fit."""
        return self.model_name.removeprefix("lsa-")

    @property
    def identity(self) -> str:
        """Names the fit: vectors of another identity are not comparable."""
        return self.model_name

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self._term_vectors.shape[1])

    @property
    def batch_limits(self) -> BatchLimits:
        """What one batch may hold."""
        return LSA_LIMITS

    @property
    def concurrency(self) -> int:
        """Batches worth having under way: one computes while the other is fetched or kept."""
        return LSA_CONCURRENCY

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        analyzer: Analyzer,
        *,
        dimensions: int,
        max_features: int,
        known: np.ndarray,
    ) -> LsaEmbedder:
        """Fits on texts: the corpus, or a sample of it.

        The same texts give the same fit on one machine, in any process. The rank is lower than
        `dimensions` where the corpus is too small for it. `known` are the hashes of all nodes the
        fit is meant for, against which `drift` is measured later.
        """
        given = list(texts)
        split = [_split_heading(text, analyzer) for text in given]
        vocabulary, idf = _weigh([heading + body for heading, body in split], max_features)
        matrix = _rows(split, {token: place for place, token in enumerate(vocabulary)}, idf)
        rank = max(1, min(dimensions, *(size - 1 for size in matrix.shape)))
        term_vectors = _term_vectors(matrix, rank)
        fit_id = fingerprint_of(
            [
                hashlib.sha256(np.sort(known).tobytes()).hexdigest(),
                analyzer.identity,
                [dimensions, max_features, len(split), LSA_VERSION],
            ]
        )
        fitted = cls(analyzer, vocabulary, idf, term_vectors, np.sort(known), fit_id)
        # The ingestion that fits goes on to embed the same texts: they need no second analysis.
        fitted._fitted = {key: row for row, key in enumerate(text_hashes(given).tolist())}
        fitted._fitted_rows = matrix
        return fitted

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Unit row vectors, float32 of shape (len(texts), dimensions)."""
        projected = self._weighted(texts) @ self._term_vectors
        lengths = np.linalg.norm(projected, axis=1, keepdims=True)
        unit: np.ndarray = np.divide(
            projected, lengths, out=np.zeros_like(projected), where=lengths > 1e-9
        ).astype(np.float32)
        return unit

    def _weighted(self, texts: Sequence[str]) -> csr_matrix:
        """TF-IDF rows; if the fit was on all of these texts, it has made them."""
        if self._fitted_rows is not None:
            places = [self._fitted.get(key, -1) for key in text_hashes(texts).tolist()]
            if places and min(places) >= 0:
                return self._fitted_rows[places]
        split = [_split_heading(text, self._analyzer) for text in texts]
        return _rows(split, self._vocabulary, self._idf)

    def drift(self, hashes: np.ndarray) -> float:
        """Share of nodes, given by their `text_hashes`, that the fit is not for; from 0 to 1."""
        return float(1 - np.isin(hashes, self._known).mean()) if len(hashes) else 0.0

    async def embed_documents(self, texts: Sequence[str]) -> Embedded:
        """`vectors`, off the event loop; a text without any known word has failed."""

        def compute() -> np.ndarray:
            with _COMPUTING:
                return self.vectors(texts)

        matrix = await asyncio.to_thread(compute)
        zero = np.flatnonzero(~matrix.any(axis=1)).tolist()
        return Embedded(matrix, dict.fromkeys(zero, _NO_KNOWN_WORD))

    async def embed_query(self, text: str) -> np.ndarray:
        """The vector of one question, float32 of shape (dimensions,); zero if it knows no word."""
        matrix = await asyncio.to_thread(self.vectors, [_one_line(text)])
        row: np.ndarray = matrix[0]
        return row

    def save(self, folder: Path) -> None:
        """Writes NumPy arrays and JSON into a folder, no pickle."""
        folder.mkdir(parents=True)
        np.savez(
            folder / "lsa.npz", idf=self._idf, term_vectors=self._term_vectors, known=self._known
        )
        about = {
            "fit_id": self.fit_id,
            "language": self._analyzer.language,
            "analyzer": self._analyzer.identity,
            "vocabulary": list(self._vocabulary),
        }
        (folder / "lsa.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> LsaEmbedder:
        """Opens a fit written by `save`.

        Raises:
            IndexStateError: it is missing, damaged, or of another version of the analyser.
        """
        try:
            about = json.loads((folder / "lsa.json").read_text(encoding="utf-8"))
            with (
                (folder / "lsa.npz").open("rb") as file,  # NumPy leaves a damaged one open
                np.load(file, allow_pickle=False) as arrays,
            ):
                idf, known = arrays["idf"], arrays["known"]
                term_vectors = arrays["term_vectors"]
            analyzer, vocabulary, fit_id = (
                Analyzer(about["language"]),
                about["vocabulary"],
                about["fit_id"],
            )
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise IndexStateError(
                f"the fitted embedder in {folder.name} cannot be read ({error}). "
                "Run 'rag-lab ingest'."
            ) from None
        if analyzer.identity != about["analyzer"]:
            raise IndexStateError(
                "the fitted embedder was made with other text rules. Run 'rag-lab ingest --refit'."
            )
        return cls(analyzer, vocabulary, idf, term_vectors, known, fit_id)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return [[float(x) for x in row] for row in self.vectors(texts)]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(_one_line(query))

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await self._aget_text_embedding(_one_line(query))


def text_hashes(texts: Iterable[str]) -> np.ndarray:
    """64-bit hashes of texts, uint64: small enough to remember every node of a fit."""
    digests = (hashlib.sha256(t.encode("utf-8", "surrogatepass")).digest()[:8] for t in texts)
    return np.frombuffer(b"".join(digests), np.uint64)


def _one_line(query: str) -> str:
    """A question has no heading, however many lines it was typed on."""
    return " ".join(query.split())


def _split_heading(text: str, analyzer: Analyzer) -> tuple[list[str], list[str]]:
    """Tokens of the heading line, each name analysed by itself, and of the rest."""
    heading, newline, body = text.partition("\n")
    if not newline:
        return [], analyzer.tokens(text)
    names = heading.split(HEADING_SEPARATOR)
    return [token for name in names for token in analyzer.tokens(name)], analyzer.tokens(body)


def _rows(
    split: Sequence[tuple[list[str], list[str]]], vocabulary: dict[str, int], idf: np.ndarray
) -> csr_matrix:
    """TF-IDF rows of unit length in which the heading has its share."""
    headings = _tf_idf([heading for heading, _ in split], vocabulary, idf)
    bodies = _tf_idf([body for _, body in split], vocabulary, idf)
    return _unit(_HEADING_SHARE * headings + (1 - _HEADING_SHARE) * bodies)


def _term_vectors(matrix: csr_matrix, rank: int) -> np.ndarray:
    """The leading right singular vectors as columns, float32 of shape (vocabulary, rank).

    Randomised range finder with one power iteration, algorithms 4.4 and 5.1 of Halko, Martinsson
    & Tropp, *Finding Structure with Randomness* (2011). More iterations fit the matrix closer and
    find fewer documents (measured on three corpora).
    """
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    width = min(rank + _OVERSAMPLE, *matrix.shape)
    # BLAS threads spin: beside another busy process two of them take twenty times as long as one.
    with threadpool_limits(1, user_api="blas"):
        basis = _orthonormal(matrix @ rng.standard_normal((matrix.shape[1], width), np.float32))
        basis = _orthonormal(matrix @ _orthonormal(matrix.T @ basis))
        right, triangle = np.linalg.qr(matrix.T @ basis)
        _, _, turned = np.linalg.svd(triangle.T)
        return np.ascontiguousarray(right @ turned[:rank].T, np.float32)


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    basis, _ = np.linalg.qr(columns)
    return basis


def _weigh(token_lists: list[list[str]], max_features: int) -> tuple[list[str], np.ndarray]:
    """The vocabulary in alphabetical order and each word's idf: ln((1 + n) / (1 + df)) + 1."""
    counts: Counter[str] = Counter()
    for tokens in token_lists:
        counts.update(set(tokens))
    enough = [token for token, count in counts.items() if count >= _MIN_DOCUMENTS] or list(counts)
    vocabulary = sorted(sorted(enough, key=lambda token: (-counts[token], token))[:max_features])
    found_in = np.array([counts[token] for token in vocabulary], np.float64)
    return vocabulary, (np.log((1 + len(token_lists)) / (1 + found_in)) + 1).astype(np.float32)


def _tf_idf(
    token_lists: Sequence[Sequence[str]], vocabulary: dict[str, int], idf: np.ndarray
) -> csr_matrix:
    """Rows of (1 + ln tf) · idf at unit length, float32 of shape (texts, vocabulary)."""
    from scipy.sparse import csr_matrix

    columns: list[int] = []
    counts: list[int] = []
    starts = [0]
    for tokens in token_lists:
        known = Counter(place for t in tokens if (place := vocabulary.get(t)) is not None)
        columns.extend(known)
        counts.extend(known.values())
        starts.append(len(columns))
    places = np.array(columns, np.int32)
    values = (1 + np.log(np.array(counts, np.float32))) * idf[places]
    matrix = csr_matrix(
        (values, places, np.array(starts, np.int64)), shape=(len(token_lists), len(idf))
    )
    return _unit(matrix)


def _unit(matrix: csr_matrix) -> csr_matrix:
    """The rows at unit length; empty ones stay zero. Changes the matrix given."""
    squares: Any = matrix.multiply(matrix).sum(axis=1)
    lengths = np.sqrt(np.asarray(squares)).ravel()
    matrix.data /= np.repeat(np.where(lengths > 0, lengths, 1), np.diff(matrix.indptr))
    return matrix
