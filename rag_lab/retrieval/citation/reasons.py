"""What is said of a law, a Pasal or an ayat that a corpus does not have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from rag_lab.corpora.law import law_name
from rag_lab.retrieval.citation.parse import LawMention

Language = Literal["id", "en"]

LAW_KEY: Final = re.compile(r"[a-z]+-\d{4}-\w+")

SAYINGS: Final[Mapping[Language, Mapping[str, str]]] = {
    "id": {
        "law": "tidak ada {law} dalam korpus ini",
        "name": 'tidak ada peraturan bernama "{law}" dalam korpus ini; sebutkan nomor dan tahunnya',
        "pasal": "{law} memuat Pasal {range}, tidak ada Pasal {pasal}",
        "gap": "korpus ini memuat {count} Pasal dari {law} ({range}), tidak ada Pasal {pasal}",
        "ayat": "Pasal {pasal} {law} memuat ayat (1)–({last}), tidak ada ayat ({ayat})",
        "nowhere": "tidak ada peraturan dalam korpus ini yang memuat Pasal {pasal}",
        "several": '"{name}" dapat berarti {laws}',
        "changed": "Pasal {pasal} tidak ada dalam {law}, tetapi dalam perubahannya, {change}",
    },
    "en": {
        "law": "no {law} in this corpus",
        "name": 'no law in this corpus is called "{law}"; name it by number and year',
        "pasal": "{law} has Pasal {range}, not Pasal {pasal}",
        "gap": "this corpus has {count} Pasal of {law} ({range}), not Pasal {pasal}",
        "ayat": "Pasal {pasal} {law} has ayat (1)–({last}), not ayat ({ayat})",
        "nowhere": "no law in this corpus has Pasal {pasal}",
        "several": '"{name}" may be {laws}',
        "changed": "Pasal {pasal} is not in {law} but in {change}, which changes it",
    },
}


def no_law(law: LawMention, language: Language) -> str:
    """That the corpus does not have a law, called what the question calls it."""
    if not law.keys:
        return SAYINGS[language]["name"].format(law=law.name)
    formal = law_name(law.keys[0]) if LAW_KEY.fullmatch(law.keys[0]) else ""
    if not formal or any(digit in law.name for digit in "0123456789"):
        named = formal if law.keys[0].startswith(("uu-", "pp-")) else law.name
        return SAYINGS[language]["law"].format(law=named)
    return SAYINGS[language]["law"].format(law=f"{law.name} ({formal})")


def no_pasal(law: str, pasal: str, numbers: Sequence[int], count: int, language: Language) -> str:
    """That a law has no such Pasal, and which it has.

    Args:
        law: its name.
        pasal: what was asked for.
        numbers: the numbers its Pasal have here, ascending.
        count: how many Pasal it has here.
        language: of the reason.
    """
    first, last = (numbers[0], numbers[-1]) if numbers else (0, 0)
    whole = len(numbers) == last - first + 1
    return SAYINGS[language]["pasal" if whole else "gap"].format(
        law=law, pasal=pasal, range=f"{first}–{last}", count=count
    )
