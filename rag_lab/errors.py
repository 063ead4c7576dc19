"""What can go wrong, as a tree.

    RagLabError
    ├── SettingsError          a setting, option or parameter is unusable
    ├── CorpusError            a corpus cannot be found, read or registered
    │   └── RecordError        one record of a corpus is unusable (file, line, reason)
    ├── IndexStateError        an index is missing, damaged or of another corpus
    ├── ModelError             a model refused or failed
    │   ├── ModelConfigError   a model is half configured
    │   └── ProviderError      its provider fails for now; later the same may succeed
    ├── SimulatorError         a simulated provider could not be started or asked
    ├── ReportError            a notebook run or an export failed
    └── MissingExtraError      an optional part is not installed

Every message says what was given, what was expected and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass


class RagLabError(Exception):
    """Base of every error that rag-lab raises on purpose."""


class SettingsError(RagLabError):
    """A setting, option or parameter is unusable."""


class CorpusError(RagLabError):
    """A corpus cannot be found, read or registered."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One record that was read and not kept: where it stood and why it was refused."""

    file: str
    line: int
    reason: str
    record_id: str = ""

    def __str__(self) -> str:
        who = f" ({self.record_id})" if self.record_id else ""
        return f"{self.file}:{self.line}{who}: {self.reason}"


class RecordError(CorpusError):
    """One record of a corpus is unusable; raised only in strict reading."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(f"{rejection}. Mend the record, or read without --strict to skip it.")
        self.rejection = rejection


class IndexStateError(RagLabError):
    """An index is missing, damaged or belongs to another corpus or settings."""


class ModelError(RagLabError):
    """A model refused a request or failed."""


class ModelConfigError(ModelError):
    """A model is configured only in part."""


class ProviderError(ModelError):
    """A model's provider fails, refuses for now or cannot be reached: later it may succeed."""


class SimulatorError(RagLabError):
    """A simulated provider could not be started or asked."""


class ReportError(RagLabError):
    """A notebook run or the export of its page failed."""


class MissingExtraError(RagLabError):
    """An optional part is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'{package} is not installed. Run: pip install "rag-lab[{extra}]"')
