"""Splitting statute texts written for these tests; one test against real data where it is there."""

import gzip
import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_lab.corpora.agreement import compare_with, word_overlap
from rag_lab.corpora.statute import (
    Article,
    Statute,
    cut_closing,
    definition_items,
    split_ayat,
    split_statute,
)

HEAD = """UNDANG-UNDANG REPUBLIK INDONESIA
NOMOR 99 TAHUN 2031 TENTANG PASAR TERAPUNG
Menimbang :
a. bahwa pasar terapung perlu diatur;
Mengingat :
Pasal 5 ayat (1) dan Pasal 20 Undang-Undang Dasar;
MEMUTUSKAN:
Menetapkan : UNDANG-UNDANG TENTANG PASAR TERAPUNG.
"""
CLOSING = """
Agar setiap orang mengetahuinya, memerintahkan pengundangan Undang-Undang ini dengan
penempatannya dalam Lembaran Negara Republik Indonesia.
Disahkan di Jakarta pada tanggal 1 April 2031 PRESIDEN REPUBLIK INDONESIA, ttd.
"""
EXPLANATION = """PENJELASAN ATAS UNDANG-UNDANG NOMOR 99 TAHUN 2031 TENTANG PASAR TERAPUNG
I. UMUM Pasar terapung adalah warisan. II. PASAL DEMI PASAL
"""


def numbers(statute: Statute, kind: str = "pasal") -> list[str]:
    return [article.number for article in statute.articles if article.kind == kind]


def article(statute: Statute, key: str) -> Article:
    return next(article for article in statute.articles if article.key == key)


def texts(body: str, head: str = HEAD, closing: str = CLOSING) -> dict[str, str]:
    return {a.key: a.text for a in split_statute(head + body + closing).articles}


class TestHeadings:
    def test_lines_of_their_own(self) -> None:
        body = "BAB I KETENTUAN UMUM\nPasal 1\nPedagang ialah orang.\nPasal 2.\n(1) Perahu diikat."
        statute = split_statute(HEAD + body + CLOSING)
        assert numbers(statute) == ["1", "2"]
        assert article(statute, "pasal-1").text == "Pedagang ialah orang."
        assert statute.preamble.startswith("UNDANG-UNDANG REPUBLIK INDONESIA")
        assert "Pasal 20" in statute.preamble
        assert statute.warnings == ()

    def test_inline_after_a_sentence_and_not_the_references(self) -> None:
        body = (
            "Pasal 1\nPerahu wajib terdaftar.\nPasal 2\nPelanggar didenda. P asal 3 Denda "
            "sebagaimana dimaksud dalam Pasal 2 dibayar tunai, Pasal 4 ayat (1) tidak berlaku.\n"
            "Pasal 4\n(1) Denda disetor ke kas desa sesuai dengan Pasal 3.\n"
        )
        found = texts(body)
        assert list(found) == ["pasal-1", "pasal-2", "pasal-3", "pasal-4"]
        assert found["pasal-2"] == "Pelanggar didenda."
        assert found["pasal-3"].startswith("Denda sebagaimana")

    def test_everything_on_one_line_in_old_spelling(self) -> None:
        text = (
            "Memutuskan : Menetapkan peraturan sebagai berikut : Pasal 1. Bea perahu dihapuskan. "
            "Fasal 2. Jang melanggar pasal 1 dihukum. Pasal 3. Undang-undang ini mulai berlaku "
            "pada hari diumumkan. Ditetapkan di Banjarmasin pada tanggal 2 Mei 1947."
        )
        found = texts(text, head="", closing="")
        assert list(found) == ["pasal-1", "pasal-2", "pasal-3"]
        assert found["pasal-3"] == "Undang-undang ini mulai berlaku pada hari diumumkan."

    def test_a_reference_that_starts_a_wrapped_line(self) -> None:
        body = (
            "Pasal 1\nPedagang tunduk pada ketentuan dalam\nPasal 7\nayat (2) peraturan desa.\n"
            "Pasal 2\nPerahu diperiksa.\n"
        )
        assert list(texts(body)) == ["pasal-1", "pasal-2"]

    @pytest.mark.parametrize(
        "written", ["Pasal l1", "Pasal 1 1", "Pasal I1", "Pasa1 11", "Pasal11"]
    )
    def test_misread_numbers_are_read_where_the_sequence_asks(self, written: str) -> None:
        body = "".join(f"Pasal {n}\nPerahu ke-{n}.\n" for n in range(1, 11))
        found = texts(f"{body}{written}\n(1) Dermaga dirawat.\nPasal 12\nSelesai.\n")
        assert found["pasal-11"] == "(1) Dermaga dirawat."
        assert list(found)[-1] == "pasal-12"

    def test_a_suffix_is_joined_and_upper_case(self) -> None:
        found = texts("Pasal 1\nSatu.\nPasal 1 A\nSatu A.\nPasal 1b\nSatu B.\nPasal 2\nDua.\n")
        assert list(found) == ["pasal-1", "pasal-1A", "pasal-1B", "pasal-2"]

    def test_a_repeated_heading_is_a_catchword(self) -> None:
        body = "Pasal 1\nPerahu.\nPasal 2\nPRESIDEN REPUBLIK INDONESIA\n- 3 -\nPasal 2\nDermaga.\n"
        assert texts(body) == {"pasal-1": "Perahu.", "pasal-2": "Dermaga."}

    def test_a_gap_is_reported(self) -> None:
        statute = split_statute(HEAD + "Pasal 1\nSatu.\nPasal 4\nEmpat.\n" + CLOSING)
        assert statute.warnings == ("missing Pasal 2 to 3",)

    def test_a_heading_whose_text_is_lost_is_reported(self) -> None:
        statute = split_statute(HEAD + "Pasal 1\nSatu.\nPasal 2\nPasal 3\nTiga.\n" + CLOSING)
        assert statute.warnings == ("no text under pasal-2",)

    def test_a_typed_roman_one_is_an_arabic_one(self) -> None:
        assert list(texts("Pasal I. Satu. Pasal 2. Dua. Pasal 3. Tiga.")) == [
            "pasal-1",
            "pasal-2",
            "pasal-3",
        ]


class TestCleaning:
    def test_catchwords_page_numbers_and_footers(self) -> None:
        body = (
            "Pasal 1\nPedagang wajib:\na. mendayung;\nb. berhenti . . .\n- 5 -\n"
            "b. berhenti bila diminta. ditjen Peraturan Perundang-undangan\nPasal 2 . . .\n"
            "PRESIDEN\nREPUBLIK INDONESIA\nPasal 2\nPerahu dicat www.contoh.go.id hijau.\n"
        )
        found = texts(body)
        assert found["pasal-1"].split("\n") == [
            "Pedagang wajib:",
            "a. mendayung;",
            "b. berhenti bila diminta.",
        ]
        assert found["pasal-2"] == "Perahu dicat hijau."

    def test_dots_that_announce_nothing_stay(self) -> None:
        assert texts("Pasal 1\nSumpah: Saya ... berjanji.\n") == {
            "pasal-1": "Sumpah: Saya ... berjanji."
        }

    def test_unprintable_characters_are_removed_with_a_warning(self) -> None:
        statute = split_statute(HEAD + "Pasal 1\nPera\x00hu\ufffd dicat.\n")
        assert article(statute, "pasal-1").text == "Perahu dicat."
        assert statute.warnings == ("removed 2 control or replacement characters",)

    def test_chapter_and_section_titles_leave_the_article(self) -> None:
        body = (
            "BAB I KETENTUAN UMUM\nPasal 1\nSatu.\nBAB II RUANG LINGKUP\nBagian Kesatu Umum\n"
            "Pasal 2\nDua. BAB III. SANKSI DAN DENDA. Pasal 3. Tiga.\n"
        )
        statute = split_statute(HEAD + body + CLOSING)
        assert [(a.number, a.bab, a.text) for a in statute.articles] == [
            ("1", "BAB I KETENTUAN UMUM", "Satu."),
            ("2", "BAB II RUANG LINGKUP", "Dua."),
            ("3", "BAB III. SANKSI DAN DENDA", "Tiga."),
        ]

    def test_a_sentence_about_a_chapter_stays(self) -> None:
        body = "Pasal 1\nKetentuan dalam Bab II tidak berlaku bagi perahu kecil milik nelayan.\n"
        assert texts(body)["pasal-1"].endswith("milik nelayan.")


class TestParts:
    def test_closing_is_apart(self) -> None:
        statute = split_statute(HEAD + "Pasal 1\nSatu.\nPasal 2\nMulai berlaku.\n" + CLOSING)
        assert article(statute, "pasal-2").text == "Mulai berlaku."
        assert statute.closing.startswith("Agar setiap orang")

    def test_an_article_may_begin_like_the_closing(self) -> None:
        body = (
            "Pasal 1\nAgar setiap orang mengetahuinya, tarif ditempel dengan jelas.\nPasal 2\nDua."
        )
        assert list(texts(body)) == ["pasal-1", "pasal-2"]

    def test_explanations_go_to_their_articles(self) -> None:
        body = "Pasal 1\nSatu.\nPasal 2\nDua.\nPasal 3\nTiga.\nPasal 4\nEmpat.\n"
        notes = (
            "Pasal 1\nCukup jelas. Pasal 2 Ayat (1) Lihat Pasal 1.\nPasal 3 sampai dengan Pasal 4\n"
            "Cukup jelas.\nTAMBAHAN LEMBARAN NEGARA REPUBLIK INDONESIA NOMOR 1\n"
        )
        statute = split_statute(HEAD + body + CLOSING + EXPLANATION + notes)
        assert [(a.text, a.explanation) for a in statute.articles] == [
            ("Satu.", "Cukup jelas."),
            ("Dua.", "Ayat (1) Lihat Pasal 1."),
            ("Tiga.", "Cukup jelas."),
            ("Empat.", "Cukup jelas."),
        ]
        assert "warisan" in statute.general_explanation

    def test_what_is_annexed_gives_no_articles(self) -> None:
        annex = "LAMPIRAN\nMEMUTUSKAN\nPasal 1\nPerjanjian ini.\nPasal 2\nItu.\nPasal 3\nIni.\n"
        statute = split_statute(HEAD + "Pasal 1\nMengesahkan.\nPasal 2\nBerlaku." + CLOSING + annex)
        assert numbers(statute) == ["1", "2"]
        assert "Perjanjian ini." in statute.closing

    @pytest.mark.parametrize("text", ["", "Bukan undang-undang.", "Pasal ", "\x00", HEAD])
    def test_no_article_is_a_warning(self, text: str) -> None:
        statute = split_statute(text)
        assert statute.articles == ()
        assert "no Pasal found" in statute.warnings

    def test_cut_closing(self) -> None:
        body, closing = cut_closing("Mulai berlaku. Agar setiap orang mengetahuinya, memerintahkan")
        assert (body, closing[:4]) == ("Mulai berlaku.", "Agar")


AMENDING = """Pasal I
Beberapa ketentuan dalam Undang-Undang Nomor 1 Tahun 2020 diubah sebagai berikut:
1. Ketentuan Pasal 12 diubah sehingga berbunyi sebagai berikut: “Pasal 12
(1) Perahu wajib berlampu.
(2) Lampu sebagaimana dimaksud pada ayat (1) berwarna hijau.
2. Di antara Pasal 12 dan Pasal 13 disisipkan 2 (dua) pasal, yakni Pasal 12A dan Pasal 12 B yang \
berbunyi sebagai berikut:
Pasal 12A
Lampu diperiksa.
Pasal 12 B
Pemeriksa wajib jujur.
3. Pasal 14 dihapus.
Pasal II
Undang-Undang ini mulai berlaku pada tanggal diundangkan.
"""


class TestAmending:
    def test_nested_articles(self) -> None:
        statute = split_statute(HEAD + AMENDING + CLOSING)
        assert numbers(statute) == ["I", "II"]
        assert [(a.key, a.parent) for a in statute.articles if a.kind == "perubahan"] == [
            ("ubah-12", "I"),
            ("ubah-12A", "I"),
            ("ubah-12B", "I"),
        ]
        assert article(statute, "ubah-12B").text == "Pemeriksa wajib jujur."
        assert [n for n, _ in article(statute, "ubah-12").ayat] == ["1", "2"]
        assert article(statute, "pasal-I").ayat == ()
        assert "Pemeriksa wajib jujur." in article(statute, "pasal-I").text

    def test_their_explanations(self) -> None:
        notes = (
            "Pasal I\nAngka 1\nPasal 12\nCukup jelas.\nAngka 2\nPasal 12A\nLampu minyak.\n"
            "Pasal II\nCukup jelas.\n"
        )
        statute = split_statute(HEAD + AMENDING + CLOSING + EXPLANATION + notes)
        assert article(statute, "ubah-12A").explanation == "Lampu minyak."
        assert article(statute, "ubah-12B").explanation == ""
        assert article(statute, "pasal-II").explanation == "Cukup jelas."

    def test_an_arabic_amending_article_and_the_same_number_twice(self) -> None:
        body = (
            "Pasal 1\nUndang-Undang Pasar diubah sebagai berikut:\n1. Ketentuan Pasal 5 diubah "
            "sehingga berbunyi sebagai berikut:\nPasal 5\nPasar buka pagi.\n"
            "Pasal 2\nUndang-Undang Perahu diubah sebagai berikut:\n1. Ketentuan Pasal 5 diubah "
            "sehingga berbunyi sebagai berikut:\nPasal 5\nPerahu berlampu.\n"
            "Pasal 3\nMulai berlaku.\n"
        )
        statute = split_statute(HEAD + body + CLOSING)
        assert numbers(statute) == ["1", "2", "3"]
        assert article(statute, "ubah-5").text == "Pasar buka pagi."
        assert article(statute, "ubah-5~2").text == "Perahu berlampu."
        assert article(statute, "ubah-5~2").ordinal == 2

    def test_an_enacted_emergency_law_below_a_chapter_heading(self) -> None:
        body = (
            "Pasal I. Undang-undang Darurat ditetapkan sebagai undang-undang, yang berbunyi "
            "sebagai berikut : BAB I. UMUM. Pasal 1. Pasar dibuka. Pasal 2. Pasar ditutup. "
            "Pasal II. Undang-undang ini mulai berlaku."
        )
        statute = split_statute(HEAD + body + CLOSING)
        assert [a.key for a in statute.articles] == ["pasal-I", "ubah-1", "ubah-2", "pasal-II"]


class TestAyat:
    def test_lines_and_sentences_but_not_references(self) -> None:
        text = (
            "(1) Perahu didaftar. (2) Pendaftaran sebagaimana dimaksud pada ayat (1) dan ayat\n"
            "(3) gratis.\n(2a) Kecuali perahu besar.\n(3) Selesai."
        )
        assert split_ayat(text) == [
            ("1", "Perahu didaftar."),
            ("2", "Pendaftaran sebagaimana dimaksud pada ayat (1) dan ayat\n(3) gratis."),
            ("2a", "Kecuali perahu besar."),
            ("3", "Selesai."),
        ]

    def test_a_misread_bracket(self) -> None:
        assert [n for n, _ in split_ayat("(1) Satu.\n(21 Dua.\n{3) Tiga.")] == ["1", "2", "3"]

    def test_none(self) -> None:
        assert split_ayat("Denda paling lama 2 (dua) tahun.") == []


class TestDefinitions:
    def test_numbered(self) -> None:
        text = (
            "Dalam Undang-Undang ini yang dimaksud dengan:\n"
            "1. Pasar Terapung, yang selanjutnya disebut Pasar, adalah pasar di atas air.\n"
            "2. Pedagang adalah:\na. orang; atau\nb. badan.\n"
            "3. Unit Pengelola Pasar (UPP) adalah satuan kerja; dan\n4. Perahu adalah kendaraan."
        )
        assert [(number, term) for number, term, _ in definition_items(text)] == [
            ("1", "Pasar Terapung"),
            ("2", "Pedagang"),
            ("3", "Unit Pengelola Pasar"),
            ("4", "Perahu"),
        ]
        assert definition_items(text)[1][2] == "Pedagang adalah:\na. orang; atau\nb. badan."

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                'Yang dimaksudkan dengan:\n(1) "dermaga" ialah tempat;\n(2) "juru mudi" ialah:\n'
                "a. orang;",
                [("1", "dermaga"), ("2", "juru mudi")],
            ),
            (
                "Yang dimaksud dengan: a. Perahu, ialah alat; b. Kapal, ialah perahu besar.",
                [("a", "Perahu"), ("b", "Kapal")],
            ),
            (
                '"Perahu" adalah alat.\n"Menteri" adalah Menteri Perairan.',
                [("", "Perahu"), ("", "Menteri")],
            ),
            (
                "Dalam Undang-Undang ini yang dimaksud dengan Perahu adalah alat angkut.",
                [("", "Perahu")],
            ),
        ],
    )
    def test_other_forms(self, text: str, expected: list[tuple[str, str]]) -> None:
        assert [(number, term) for number, term, _ in definition_items(text)] == expected

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "(1) Izin sebagaimana dimaksud dalam Pasal 2 adalah gratis.\n(2) Izin dicabut.",
            "Pedagang wajib:\na. mendayung;\nb. berhenti.",
        ],
    )
    def test_no_definitions(self, text: str) -> None:
        assert definition_items(text) == []


PIECES = st.sampled_from(
    [
        *("Pasal 1\n", "Pasal 2. ", "Pasal I\n", "Pasal 12 B\n", "(1) ", "sebagai berikut:\n"),
        *(
            "MEMUTUSKAN ",
            "PENJELASAN ATAS ",
            "PASAL DEMI PASAL\n",
            "Disahkan di Jakarta ",
            "BAB I ",
        ),
        *("a. Perahu adalah alat; ", "Cukup jelas. ", ". . . ", "\n", "Bagian Kesatu ", "- 2 - "),
    ]
)
HOSTILE = st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=5))).map("".join))


class TestProperties:
    @given(HOSTILE)
    @settings(max_examples=200, deadline=None)
    def test_never_raises_and_keys_are_unique(self, text: str) -> None:
        statute = split_statute(text)
        keys = [article.key for article in statute.articles]
        assert len(keys) == len(set(keys))
        assert statute == split_statute(text)
        assert statute.articles or "no Pasal found" in statute.warnings

    @given(HOSTILE)
    @settings(max_examples=100, deadline=None)
    def test_items_are_parts_of_the_text(self, text: str) -> None:
        assert all(item in text for _, item in split_ayat(text))
        assert all(item in text and term in item for _, term, item in definition_items(text))

    @given(st.lists(st.text(string.ascii_lowercase + " ", min_size=1, max_size=40), min_size=1))
    @settings(max_examples=50, deadline=None)
    def test_a_plain_statute_comes_back(self, sentences: list[str]) -> None:
        bodies = [f"Setiap {sentence.strip()} wajib tertib." for sentence in sentences]
        lines = "".join(f"Pasal {n}\n{body}\n" for n, body in enumerate(bodies, 1))
        expected = [" ".join(body.split()) for body in bodies]
        assert [" ".join(t.split()) for t in texts(lines).values()] == expected

    @pytest.mark.parametrize(
        "piece", ["Pasal ", "(", "Pasal 1\n", "Pasal 1,1", "a... ", "Pasal I\n"]
    )
    def test_a_long_hostile_text_is_read(self, piece: str) -> None:
        text = piece * (200_000 // len(piece))
        assert len(split_statute(text).articles) <= 1
        assert len(definition_items(text)) <= 1


class TestAgreement:
    def test_word_overlap_is_the_dice_coefficient(self) -> None:
        # 2 common words of 3 and 4: 2*2/(3+4).
        assert word_overlap("Perahu wajib, hijau", "perahu hijau besar baru") == pytest.approx(
            4 / 7
        )
        assert word_overlap("", "...") == 1.0

    def test_counts(self) -> None:
        body = "Pasal 1\nPerahu wajib dicat hijau.\nPasal 2\nMulai berlaku hari ini.\n"
        rows: list[dict[str, Any]] = [
            {"doc": "a", "kind": "pasal", "pasal": "1", "text": "Dermaga dicat merah."},
            {
                "doc": "a",
                "kind": "pasal",
                "pasal": "2",
                "text": "Mulai berlaku hari ini." + CLOSING,
            },
            {"doc": "a", "kind": "pasal", "pasal": "2", "text": "Cukup jelas."},
            {"doc": "a", "kind": "pasal", "pasal": "3", "text": "Hilang."},
            {"doc": "a", "kind": "perubahan", "pasal": "9", "text": "Tidak dihitung."},
            {"doc": "b", "kind": "pasal", "pasal": "1", "text": "Tidak ada."},
        ]
        agreement = compare_with(rows, {"a": split_statute(HEAD + body + CLOSING)})
        assert (agreement.statutes, agreement.reference_articles, agreement.repeats) == (1, 3, 1)
        assert agreement.found_share == pytest.approx(2 / 3)
        assert agreement.matched_share == pytest.approx(1 / 3)
        assert [number for number, _ in agreement.per_statute[0].unmatched] == ["1", "3"]


def read_rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_agreement_with_the_reference_split(real_corpus: Callable[[str], Path]) -> None:
    reference = read_rows(real_corpus("law_id_core") / "pasal.jsonl.gz")
    wanted = {row["doc"] for row in reference}
    parsed = {
        row["doc"]: split_statute(row["text"])
        for row in read_rows(real_corpus("law_id_fulltext") / "uu.jsonl.gz")
        if row["doc"] in wanted
    }
    agreement = compare_with(reference, parsed)
    assert agreement.statutes == 197
    assert agreement.found_share >= 0.99
    assert agreement.matched_share >= 0.955
