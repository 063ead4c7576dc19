"""One frozen settings object a stage.

A value comes from, strongest first: a keyword, the environment (`RAG_LAB_*`), `.env` in the
working folder, the YAML file named by `RAG_LAB_CONFIG` (default `rag-lab.yaml`, one section a
stage), the default here. Keys are `SecretStr`: they show as stars and are left out of fingerprints.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from rag_lab.errors import SettingsError


def _config_file() -> Path:
    return Path(os.environ.get("RAG_LAB_CONFIG", "rag-lab.yaml"))


class _YamlSection(PydanticBaseSettingsSource):
    """The stage's section of the YAML file: the weakest source above the defaults."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # unused: __call__ answers for all fields at once

    def __call__(self) -> dict[str, Any]:
        file = _config_file()
        if not file.is_file():
            return {}
        section = _sections(file).get(self.settings_cls.section) or {}  # type: ignore[attr-defined]
        if not isinstance(section, dict):
            raise SettingsError(
                f"{file.name}: {self.settings_cls.section} is {section!r}; "  # type: ignore[attr-defined]
                "expected settings below it."
            )
        fields = set(self.settings_cls.model_fields)
        wrong = sorted(map(str, set(section) - fields))
        if wrong:
            raise SettingsError(
                f"{file.name}: {self.settings_cls.section} has no setting {wrong[0]!r}; "  # type: ignore[attr-defined]
                f"it has {', '.join(sorted(fields))}."
            )
        return section


def _sections(file: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{file.name} is no readable YAML: {error}.") from None
    if not isinstance(loaded, dict):
        raise SettingsError(
            f"{file.name} holds a {type(loaded).__name__}; expected sections such as 'index:'."
        )
    unknown = sorted(map(str, set(loaded) - set(SECTIONS)))
    if unknown:
        raise SettingsError(
            f"{file.name} has no section {unknown[0]!r}; sections are {', '.join(SECTIONS)}."
        )
    return loaded


class StageSettings(BaseSettings):
    """Base of the stages: frozen, strict about unknown keywords, fingerprintable."""

    section: ClassVar[str] = ""
    operational: ClassVar[frozenset[str]] = frozenset()
    """Fields that change how work is done, not what comes out: left out of the fingerprint."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_file=".env", populate_by_name=True
    )

    def __init__(self, **values: Any) -> None:
        # 'extra' must be ignored for .env, where the stages share one prefix; a keyword is ours.
        wrong = sorted(set(values) - set(type(self).model_fields))
        if wrong:
            raise SettingsError(
                f"{self.section} has no setting {wrong[0]!r}; "
                f"it has {', '.join(sorted(type(self).model_fields))}."
            )
        super().__init__(**values)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, _YamlSection(settings_cls)

    def public(self) -> dict[str, Any]:
        """The settings as plain data, without any secret."""
        values = self.model_dump(mode="json")
        return {
            key: value
            for key, value in values.items()
            if not isinstance(getattr(self, key), SecretStr)
        }

    def fingerprint(self) -> str:
        """Twelve hex digits that name what these settings make."""
        kept = {k: v for k, v in self.public().items() if k not in self.operational}
        return fingerprint_of(kept)


def fingerprint_of(value: Any) -> str:
    """Twelve hex digits that name plain data, the same in every process."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _without_login(base_url: str) -> str:
    if "@" in urlsplit(base_url).netloc:
        raise ValueError("holds a login; put the key into API_KEY instead")
    return base_url


BaseUrl = Annotated[str, AfterValidator(_without_login)]


class PathSettings(StageSettings):
    """Where corpora are looked for and where derived files go."""

    section: ClassVar[str] = "paths"
    model_config = SettingsConfigDict(env_prefix="RAG_LAB_")

    data: Path = Field(
        default=Path("~/.local/share/rag-lab"), description="registered corpora: one folder each"
    )
    cache: Path = Field(
        default=Path("~/.cache/rag-lab"),
        description="indexes, fitted models and the vector cache; safe to delete",
    )

    @property
    def data_folder(self) -> Path:
        """`data` with the home folder filled in."""
        return self.data.expanduser()

    @property
    def cache_folder(self) -> Path:
        """`cache` with the home folder filled in."""
        return self.cache.expanduser()

    def made_cache_folder(self) -> Path:
        """`cache_folder`, made if it was not there.

        Raises:
            SettingsError: it cannot be made.
        """
        try:
            self.cache_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"the cache folder {self.cache_folder} cannot be made: {error.strerror}. "
                "Set RAG_LAB_CACHE to a folder that can be written."
            ) from None
        return self.cache_folder


class EmbedSettings(StageSettings):
    """A remote embedding model, or the local one where `model` is empty."""

    section: ClassVar[str] = "embed"
    operational: ClassVar[frozenset[str]] = frozenset({"batch_size", "timeout_s"})
    model_config = SettingsConfigDict(env_prefix="RAG_LAB_EMBED_")

    model: str = Field(default="", description="model name at the provider; empty: local LSA")
    base_url: BaseUrl = Field(
        default="", description="OpenAI-compatible endpoint, e.g. http://localhost:11434/v1"
    )
    api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("RAG_LAB_EMBED_API_KEY", "OPENAI_API_KEY"),
        description="the provider's key; local servers need none",
    )
    dimensions: int | None = Field(default=None, gt=0, description="asked of the provider if set")
    batch_size: int = Field(default=96, gt=0, le=2048, description="texts a call, at most")
    timeout_s: float = Field(default=60.0, gt=0, description="for one call")


class LLMSettings(StageSettings):
    """A remote chat model, or the extractive answerer where `model` is empty."""

    section: ClassVar[str] = "llm"
    operational: ClassVar[frozenset[str]] = frozenset({"timeout_s"})
    model_config = SettingsConfigDict(env_prefix="RAG_LAB_LLM_")

    model: str = Field(default="", description="model name at the provider; empty: extractive")
    base_url: BaseUrl = Field(default="", description="OpenAI-compatible endpoint")
    api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("RAG_LAB_LLM_API_KEY", "OPENAI_API_KEY"),
        description="the provider's key; local servers need none",
    )
    temperature: float = Field(default=0.0, ge=0, le=2)
    max_tokens: int = Field(default=512, gt=0)
    context_window: int = Field(default=16_384, gt=0, description="tokens the model can read")
    timeout_s: float = Field(default=60.0, gt=0, description="for one call")


class Price(BaseModel):
    """What a model costs, in USD a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0)
    output: float = Field(default=0.0, ge=0)


class GatewaySettings(StageSettings):
    """How remote models are called. Nothing here has to be set: what matters is found out.

    It changes how fast and at what cost vectors and answers come, not which: it is no part of the
    fingerprint.
    """

    section: ClassVar[str] = "gateway"
    model_config = SettingsConfigDict(env_prefix="RAG_LAB_GATEWAY_")

    concurrency: int | None = Field(
        default=None, ge=1, le=512, description="calls in flight, fixed; unset: adaptive"
    )
    requests_per_minute: float | None = Field(
        default=None, gt=0, description="unset: learned from the provider's headers"
    )
    tokens_per_minute: float | None = Field(default=None, gt=0, description="likewise")
    attempts: int = Field(
        default=5, ge=1, le=12, description="tries of a call that fails; refused ones (429) have 12"
    )
    question_patience_s: float = Field(
        default=15.0, gt=0, description="a question's calls are retried no longer than this"
    )
    ingest_patience_s: float = Field(
        default=600.0,
        gt=0,
        description="an ingestion waits this long for a provider that answers nothing, then stops",
    )
    hedge: bool = Field(default=True, description="ask again for an embedding that is late")
    hedge_chat: bool = Field(default=False, description="likewise for answers; costs tokens")
    cache_queries: bool = Field(default=True, description="keep the vectors of questions too")
    prices: dict[str, Price] = Field(
        default_factory=dict,
        description="USD a million tokens by model, e.g. "
        '{"text-embedding-3-small": {"input": 0.02}}',
    )


class IndexSettings(StageSettings):
    """How documents become nodes, vectors and keyword entries."""

    section: ClassVar[str] = "index"
    operational: ClassVar[frozenset[str]] = frozenset({"keep_snapshots"})
    model_config = SettingsConfigDict(env_prefix="RAG_LAB_INDEX_")

    max_node_chars: int = Field(default=6_000, ge=200, description="longer texts are split")
    index_factory: str = Field(
        default="auto",
        description="FAISS index_factory string: Flat (exact), HNSW32, IVF256,Flat … auto: Flat up "
        "to 100,000 vectors, above that IVF1024,Flat (.998 of the ten nearest, 8 times as fast)",
    )
    ef_search: int = Field(default=128, gt=0, description="HNSW: candidates kept while searching")
    nprobe: int = Field(default=64, gt=0, description="IVF: lists visited a query")
    bm25_k1: float = Field(default=1.2, ge=0)
    bm25_b: float = Field(default=0.75, ge=0, le=1)
    header_weight: int = Field(
        default=4, ge=1, le=10, description="how often a header's words count in keyword search"
    )
    lsa_dimensions: int = Field(default=512, ge=2, description="rank of the local embedder")
    lsa_max_features: int = Field(default=50_000, ge=100, description="vocabulary of the fit")
    lsa_fit_nodes: int = Field(default=20_000, ge=100, description="nodes the fit looks at")
    keep_snapshots: int = Field(default=2, ge=1, description="older snapshots are deleted")


class RetrievalSettings(StageSettings):
    """How the two searches are combined."""

    section: ClassVar[str] = "retrieval"
    model_config = SettingsConfigDict(env_prefix="RAG_LAB_RETRIEVAL_")

    top_k: int = Field(default=10, gt=0, description="passages returned")
    candidates: int = Field(default=200, gt=0, description="nodes taken from each search")
    fusion: Literal["convex", "reciprocal_rank"] = "convex"
    dense_weight: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the dense score; keywords get the rest. Unset: 0.1 for the local "
        "embedder (weaker than keywords here), 0.5 for a remote model",
    )
    fold: bool = Field(default=True, description="best node of each document, not every node")


class AnswerSettings(StageSettings):
    """How answers are drawn from passages."""

    section: ClassVar[str] = "answer"
    model_config = SettingsConfigDict(env_prefix="RAG_LAB_ANSWER_")

    passages: int = Field(default=5, gt=0, description="passages an answer is drawn from")
    max_sentences: int = Field(default=3, gt=0)
    min_support: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="share of the question's weight that a passage must hold, else: refused",
    )
    decompose: Literal["off", "rules", "llm"] = Field(
        default="rules", description="who takes a question of several parts apart"
    )
    max_parts: int = Field(default=4, ge=1, le=16, description="of one question")
    parts_at_once: int = Field(default=4, ge=1, description="asked at the same time")
    part_deadline_s: float = Field(default=30.0, gt=0, description="for each part")


_STAGES: dict[str, type[StageSettings]] = {
    "paths": PathSettings,
    "embed": EmbedSettings,
    "llm": LLMSettings,
    "gateway": GatewaySettings,
    "index": IndexSettings,
    "retrieval": RetrievalSettings,
    "answer": AnswerSettings,
}
SECTIONS = tuple(_STAGES)


class Settings:
    """All stages together, each frozen. Build it with `load_settings`."""

    def __init__(
        self,
        *,
        paths: PathSettings,
        embed: EmbedSettings,
        llm: LLMSettings,
        gateway: GatewaySettings,
        index: IndexSettings,
        retrieval: RetrievalSettings,
        answer: AnswerSettings,
    ) -> None:
        self.paths = paths
        self.embed = embed
        self.llm = llm
        self.gateway = gateway
        self.index = index
        self.retrieval = retrieval
        self.answer = answer

    def public(self) -> dict[str, dict[str, Any]]:
        """Every stage as plain data, without any secret."""
        return {name: getattr(self, name).public() for name in SECTIONS}

    def fingerprint(self) -> str:
        """Twelve hex digits over the stages that decide results; paths and gateway do not."""
        deciding = [name for name in SECTIONS if name not in ("paths", "gateway")]
        return fingerprint_of({name: getattr(self, name).fingerprint() for name in deciding})

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={getattr(self, name)!r}' for name in SECTIONS)})"


def load_settings(**sections: Mapping[str, Any]) -> Settings:
    """Reads all stages from keywords, environment, `.env` and YAML.

    Args:
        **sections: values by stage, e.g. `index={"index_factory": "HNSW32"}`.

    Raises:
        SettingsError: an unknown stage or setting, or a value out of range.
    """
    unknown = sorted(set(sections) - set(SECTIONS))
    if unknown:
        raise SettingsError(f"no stage {unknown[0]!r}; stages are {', '.join(SECTIONS)}.")
    return Settings(**{name: _stage(name, sections.get(name, {})) for name in SECTIONS})  # type: ignore[arg-type]


def _stage(name: str, values: Mapping[str, Any]) -> StageSettings:
    stage = _STAGES[name]
    try:
        return stage(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        secret = "KEY" in where.upper() or "login" in first["msg"]
        given = "what is not shown here" if secret else repr(first["input"])
        # A field with an alias is named by its variable already.
        variable = (
            where if where.isupper() else f"{stage.model_config['env_prefix']}{where}".upper()
        )
        raise SettingsError(
            f"{name}.{where}: {first['msg']}, got {given}. "
            f"Set it by keyword, by {variable} or in YAML."
        ) from None
