"""What a person decided on candidates, in a file of its own beside theirs.

Every decision is a line that is on the disk before `record_decision` returns; the last one on a
candidate counts. A line that a kill cut off is passed over: its candidate is pending again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal, get_args

import orjson

from rag_lab.corpora.files import read_json_lines
from rag_lab.errors import Rejection, SettingsError
from rag_lab.evaluation.candidates.candidate import Candidate, read_candidates

Verdict = Literal["accepted", "rejected"]


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's verdict on a candidate, by its id."""

    id: str
    verdict: Verdict
    by: str = ""
    note: str = ""


@dataclass(frozen=True)
class Review:
    """Candidates in the order of their file, and the decisions so far by candidate id."""

    candidates: tuple[Candidate, ...]
    decisions: Mapping[str, Decision]

    @property
    def pending(self) -> tuple[Candidate, ...]:
        """Those that nobody has decided on."""
        return tuple(each for each in self.candidates if each.question.id not in self.decisions)

    @property
    def accepted(self) -> tuple[Candidate, ...]:
        """Those to keep; `write_candidates` makes a file of questions of them."""
        return self._of("accepted")

    @property
    def rejected(self) -> tuple[Candidate, ...]:
        """Those to leave out."""
        return self._of("rejected")

    def _of(self, verdict: Verdict) -> tuple[Candidate, ...]:
        decided = {key for key, each in self.decisions.items() if each.verdict == verdict}
        return tuple(each for each in self.candidates if each.question.id in decided)


def review(path: Path) -> Review:
    """The state of the review of a file of candidates.

    Raises:
        CorpusError: the file cannot be read, or a line is no candidate.
    """
    return Review(read_candidates(path), _decisions(decisions_file(path)))


def decisions_file(path: Path) -> Path:
    """Where the decisions on the candidates of a file are: `x.jsonl` → `x.decisions.jsonl`."""
    return path.with_suffix(f".decisions{path.suffix}")


def record_decision(
    path: Path, candidate_id: str, verdict: Verdict, *, by: str = "", note: str = ""
) -> None:
    """Adds a decision on a candidate of the file.

    Raises:
        SettingsError: another verdict, or the file has no such candidate.
    """
    if verdict not in get_args(Verdict):
        raise SettingsError(f"verdict is {verdict!r}; expected one of {get_args(Verdict)}.")
    if candidate_id not in {each.question.id for each in read_candidates(path)}:
        raise SettingsError(f"{path.name} has no candidate {candidate_id!r}; see review(path).")
    row = orjson.dumps(asdict(Decision(candidate_id, verdict, by, note)))
    with decisions_file(path).open("ab+") as stream:
        stream.write(b"\n" * _is_torn(stream) + row + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def _is_torn(stream: IO[bytes]) -> bool:
    """Whether the last line lacks its end."""
    if not stream.seek(0, os.SEEK_END):
        return False
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) != b"\n"


def _decisions(file: Path) -> dict[str, Decision]:
    if not file.is_file():
        return {}
    decided: dict[str, Decision] = {}
    for item in read_json_lines(file):
        if not isinstance(item, Rejection) and item[1].get("verdict") in get_args(Verdict):
            row = {key: str(item[1].get(key, "")) for key in ("id", "by", "note")}
            decided[row["id"]] = Decision(verdict=item[1]["verdict"], **row)
    return decided
