"""Rules of decomposition: what is taken apart and how, what stays whole, and hostile text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.asking.rules.split import MOST_CHARS, split_question

INDONESIAN = {
    "Apa definisi korupsi dan sanksi pidana terkait?": (
        "Apa definisi korupsi?",
        "Apa sanksi pidana korupsi?",
    ),
    "Apa definisi dan sanksi penggelapan?": (
        "Apa definisi penggelapan?",
        "Apa sanksi penggelapan?",
    ),
    "Apa itu perahu wisata serta bagaimana prosedurnya menurut UU 7/2031?": (
        "Apa itu perahu wisata menurut UU 7/2031?",
        "Bagaimana prosedur perahu wisata menurut UU 7/2031?",
    ),
    "Menurut UU 7/2031, apa itu Syahbandar dan apa wewenangnya?": (
        "Menurut UU 7/2031, apa itu Syahbandar?",
        "Menurut UU 7/2031, apa wewenang Syahbandar?",
    ),
    "Apa definisi garam? Apa sanksinya? Bagaimana pembuktiannya?": (
        "Apa definisi garam?",
        "Apa sanksi garam?",
        "Bagaimana pembuktian garam?",
    ),
    "Apa perbedaan tugas Nakhoda dan Mualim menurut UU 7/2031?": (
        "Apa itu tugas Nakhoda menurut UU 7/2031?",
        "Apa itu tugas Mualim menurut UU 7/2031?",
    ),
    "Bandingkan pajak kapal (UU 7/2031) dengan retribusi dermaga (PP 8/2032).": (
        "Apa itu pajak kapal (UU 7/2031)?",
        "Apa itu retribusi dermaga (PP 8/2032)?",
    ),
    "Peti kemas sama kontainer itu bedanya apa sih?": (
        "Apa itu Peti kemas?",
        "Apa itu kontainer?",
    ),
    "Sebutkan hak, kewajiban, dan larangan bagi nelayan menurut UU 7/2031!": (
        "Sebutkan hak bagi nelayan menurut UU 7/2031.",
        "Sebutkan kewajiban bagi nelayan menurut UU 7/2031.",
        "Sebutkan larangan bagi nelayan menurut UU 7/2031.",
    ),
    "Kapan izin dianggap gugur, apa yang harus ia bayar, dan kalau telat, berapa dendanya?": (
        "Kapan izin dianggap gugur?",
        "Apa yang harus izin bayar?",
        "Kalau telat, berapa denda izin?",
    ),
    "Kapal saya ditahan. Siapa yang berwenang menahan, dan pengadilan mana yang mengadili?": (
        "Kapal saya ditahan. Siapa yang berwenang menahan?",
        "Kapal saya ditahan. Pengadilan mana yang mengadili?",
    ),
    "Apa itu Hak Tambat, dan kapan hak itu diperoleh?": (
        "Apa itu Hak Tambat?",
        "Kapan Hak Tambat diperoleh?",
    ),
}

ENGLISH = {
    "What is the definition of smuggling and what are its penalties?": (
        "What is the definition of smuggling?",
        "What are the penalties of smuggling?",
    ),
    "Who directed Lantern Bay and who wrote Salt Road?": (
        "Who directed Lantern Bay?",
        "Who wrote Salt Road?",
    ),
    "Compare Lantern Bay and Salt Road": ("What is Lantern Bay?", "What is Salt Road?"),
    "Which is longer, Lantern Bay or Salt Road?": (
        "Which is longer, Lantern Bay?",
        "Which is longer, Salt Road?",
    ),
    "What is the difference between ferries and barges?": (
        "What is ferries?",
        "What is barges?",
    ),
    "List the director, the writer and the composer of Lantern Bay.": (
        "List the director of Lantern Bay.",
        "List the writer of Lantern Bay.",
        "List the composer of Lantern Bay.",
    ),
    "Who is the hero of Lantern Bay? What is the plot of Salt Road?": (
        "Who is the hero of Lantern Bay?",
        "What is the plot of Salt Road?",
    ),
    "Under Law 7/2031, what is a ferry and what are the penalties for overloading one?": (
        "Under Law 7/2031, what is a ferry?",
        "Under Law 7/2031, what are the penalties for overloading one?",
    ),
}


@pytest.mark.parametrize("question", INDONESIAN)
def test_indonesian_parts_stand_alone(question: str) -> None:
    assert split_question(question, "id") == INDONESIAN[question]


@pytest.mark.parametrize("question", ENGLISH)
def test_english_parts_stand_alone(question: str) -> None:
    assert split_question(question, "en") == ENGLISH[question]


@pytest.mark.parametrize(
    "question",
    [
        "Apa saja hak dan kewajiban nelayan?",
        "Apa tugas dan wewenang Syahbandar?",
        "Apa isi UU tentang Lalu Lintas dan Angkutan Jalan?",
        "Apa isi Pasal 5 ayat (1) dan (2) UU 7/2031?",
        "Kalau kapal karam di laut, siapa yang menanggung biayanya?",
        "Kapal yang lama menganggur bisa dihapus nggak, dan setelah berapa lama?",
        "Pencuri ikan dipidana berapa tahun dan dendanya berapa?",
        "Boleh nggak sih anak kecil ikut melaut? Ada aturannya nggak?",
        "Berapa hari dan berapa besar uang saku pelaut?",
        "Apa syarat dan tata cara pendaftaran kapal?",
    ],
)
def test_what_one_article_answers_stays_whole_in_indonesian(question: str) -> None:
    assert split_question(question, "id") == (question,)


@pytest.mark.parametrize(
    "question",
    [
        "Who wrote Salt and Lantern?",
        "When did Lantern Bay start and how many episodes does it have?",
        "Who made it and when did it air?",
        "the one where a boy and a girl find a boat and sail away, what is it called?",
        "Lantern Bay and Salt Road are parts of which series?",
        "Which has the better score, the first or the second season of Salt Road?",
    ],
)
def test_what_one_record_answers_stays_whole_in_english(question: str) -> None:
    assert split_question(question, "en") == (question,)


def test_names_are_not_cut_through() -> None:
    question = "Compare Salt and Lantern and Dunes"
    assert split_question(question, "en") == (question,)
    assert split_question(question, "en", names=[(8, 24)]) == (
        "What is Salt and Lantern?",
        "What is Dunes?",
    )


def test_what_is_over_the_bound_stays_with_the_last_part() -> None:
    question = "Apa itu garam? Siapa nelayan? Kapan melaut? Mengapa kapal karam?"
    parts = split_question(question, "id", max_parts=3)
    assert parts == ("Apa itu garam?", "Siapa nelayan?", "Kapan melaut? Mengapa kapal karam?")
    assert split_question(question, "id", max_parts=1) == (question,)


@pytest.mark.parametrize("language", ["ja", "xx", ""])
def test_other_languages_stay_whole(language: str) -> None:
    question = "Apa definisi korupsi dan apa sanksinya?"
    assert split_question(question, language) == (question,)


def test_a_pasted_document_stays_whole() -> None:
    for text in ("Apa itu garam? " * 100, "apa dan " * 100, "x" * (MOST_CHARS + 1)):
        assert split_question(text, "id") == (text,)


PIECES = st.lists(
    st.sampled_from(
        [
            "apa",
            "itu",
            "dan",
            "siapa",
            "kapan",
            "beda",
            "antara",
            "menurut",
            "UU",
            "7/2031",
            "sanksinya",
            "tersebut",
            ",",
            "?",
            ".",
            ":",
            "(",
            ")",
            "{x}",
            "\\1",
            "compare",
            "X",
            "and",
            "Y",
            "what",
            "is",
            "its",
            "which",
            "or",
            "\x00",
            "\ue000",
            "ＡＢ",
            "definisi",
            "sebutkan",
            "#1",
        ]
    )
    | st.text(max_size=5),
    max_size=30,
)


@given(PIECES, st.sampled_from(["id", "en"]), st.integers(2, 5))
def test_any_text_gives_one_to_max_parts(pieces: list[str], language: str, most: int) -> None:
    question = " ".join(pieces)
    parts = split_question(question, language, max_parts=most)
    assert 1 <= len(parts) <= most
    if len(parts) == 1:
        assert parts == (question,)
    else:
        assert all(part.strip(" ?.") for part in parts)
