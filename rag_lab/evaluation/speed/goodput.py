"""Quality under load of our engine: bundled law, a simulated provider that serves its vectors."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from rag_lab.corpora import Corpus, load_corpus
from rag_lab.evaluation.goodput import LAW, AskAnswer, quality_under_load
from rag_lab.evaluation.levels import Mode, Objective
from rag_lab.evaluation.scores import Measure
from rag_lab.evaluation.speed.measure import Tell
from rag_lab.evaluation.speed.ours import our_engine, our_index, our_settings
from rag_lab.evaluation.speed.table import Report, Table
from rag_lab.evaluation.under_load import COLUMNS
from rag_lab.index import ingest
from rag_lab.models.local import LsaEmbedder
from rag_lab.records import Answer, Question
from rag_lab.settings import load_settings
from rag_lab.simulate import SimulatorSettings, serving_corpus, simulated
from rag_lab.telemetry.trace import clock

_WARM_UP: Final = 8
_PROVIDER: Final = SimulatorSettings.of(
    {
        "latency": {"base_ms": 150, "spread": "lognormal"},
        "chat_latency": {"base_ms": 600, "spread": "lognormal"},
        "capacity": 12,
    }
)
NOTES: Final = (
    "Latencies count from the scheduled moment, over all requests. good/s: complete answers that "
    "score enough, in time, for each second requests were made. bounds: of the mean, if answers "
    "without a score had 0, and 1. 150 ms an embedding call, 600 ms an answer, lognormal, 12 calls "
    "at once: at most 20 answers are written a second, the rest are citations, which need no call. "
    "Vectors of questions are not kept.",
)


async def bench_goodput(
    measure: Measure,
    *,
    levels: Sequence[float] | None = None,
    mode: Mode = "open",
    objective: Objective = LAW,
    questions: int = 60,
    duration_s: float = 10.0,
    seed: int = 0,
    tell: Tell,
) -> Report:
    """The bundled law questions at several levels of load; without `levels` the knee is looked for.

    Args:
        measure: scores answers; for questions with strings that a right answer contains.
        questions: how many of them are asked, drawn from both halves.
        duration_s: of a level, at least.
    """
    corpus = load_corpus("law_id")
    labelled = [question for question in corpus.questions if question.answer_contains]
    asked = random.Random(seed).sample(labelled, min(questions, len(labelled)))
    async with _engine(corpus, seed, asked[:_WARM_UP]) as ask:
        done = await quality_under_load(
            ask,
            asked,
            measure,
            levels=levels,
            mode=mode,
            objective=objective,
            duration_s=duration_s,
            language=corpus.language,
            seed=seed,
            progress=tell,
        )
    setup = {"mode": mode, "questions": len(asked), "duration_s": duration_s, "seed": seed}
    title = f"{measure.name}, {len(asked)} questions on {corpus.name}, {mode} loop"
    table = Table(title, COLUMNS, done.rows())
    return Report("goodput", setup, [table], (done.verdict(), *NOTES), runs=done.rows())


@asynccontextmanager
async def _engine(
    corpus: Corpus, seed: int, warm_up: Sequence[Question]
) -> AsyncIterator[AskAnswer]:
    """Our engine at a provider that serves the corpus' own fit; it has answered a few questions."""
    with tempfile.TemporaryDirectory(prefix="rag-lab-bench-") as scratch:
        ingested = Path(scratch) / "ingested"
        local = load_settings(embed={"model": ""}, llm={"model": ""}, paths={"cache": ingested})
        await ingest(corpus, settings=local)
        served = serving_corpus(corpus.name, _PROVIDER.changed(seed=seed), local)
        fit = await asyncio.to_thread(LsaEmbedder.load, served.embedder or ingested)
        async with simulated(served.changed(latency={"base_ms": 0}, capacity=None)) as provider:
            settings = our_settings(provider, ingested, dimensions=fit.dimensions)
            (await our_index(corpus, settings)).close()
            await provider.reset(served)
            settings = our_settings(
                provider,
                Path(scratch) / "asked",
                dimensions=fit.dimensions,
                gateway={"cache_queries": False},
            )
            async with our_engine(corpus, settings, ingested) as engine:

                async def ask(question: str, scheduled_at: float) -> Answer:
                    return await engine.ask(question, scheduled_at=scheduled_at)

                await asyncio.gather(*(ask(question.text, clock()) for question in warm_up))
                yield ask
