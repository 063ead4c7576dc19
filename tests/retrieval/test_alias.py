"""Names found in questions, names that must not be found, and names that only resemble others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_lab.retrieval.alias.glossary import Glossary
from rag_lab.retrieval.alias.index import AliasIndex
from rag_lab.retrieval.alias.resemblance import features_of

NAMES = [
    ("aot", "Shingeki no Kyojin"),
    ("aot", "Attack on Titan"),
    ("aot", "進撃の巨人"),
    ("aot2", "Shingeki no Kyojin Season 2"),
    ("aot2", "Attack on Titan 2nd Season"),
    ("tora", "Toradora!"),
    ("tora", "とらドラ!"),
    ("naruto", "Naruto"),
    ("another", "Another"),
    ("monster", "Monster"),
    ("air", "Air"),
    ("one", "One"),
    ("work", "Working!!"),
    ("k", "K"),
    ("86", "86"),
    ("days", "School Days"),
    ("nichi", "日常"),
    ("ours", "ぼくらの"),
    ("anima", "アニマ"),
    ("sora", "소라의 날개"),
    ("old", "Rozen Garten"),
    ("new", "Rozen Garten"),
    ("geass", "Code Geass: Hangyaku"),
    ("geass2", "Code Geass: Hangyaku Two"),
    ("snail", "The Sapphire Snail"),
    ("snail", "Aoi Katatsumuri"),
    ("baby", "Baby"),
    ("manager", "General Manager of Baby"),
]


@pytest.fixture(scope="module")
def index() -> AliasIndex:
    return AliasIndex.build(NAMES)


def said(index: AliasIndex, question: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(hit.said, hit.document_ids) for hit in index.find(question)]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (
            "what studio made shingeki no kyojin season 2?",
            [("shingeki no kyojin season 2", ("aot2",))],
        ),
        ("what studio made SHINGEKI NO KYOJIN II", [("SHINGEKI NO KYOJIN II", ("aot2",))]),
        ("is attack on titan over", [("attack on titan", ("aot",))]),
        ("attack on titan season 3 studio?", [("attack on titan", ("aot",))]),
        ("進撃の巨人のスタジオは?", [("進撃の巨人", ("aot",))]),
        ("how long is トラドラ", [("トラドラ", ("tora",))]),
        ("is ナルト finished", [("ナルト", ("naruto",))]),
        ("is naruto finished", [("naruto", ("naruto",))]),
        ("소라의 날개 episodes", [("소라의 날개", ("sora",))]),
        (
            "Which came first, Toradora or Attack on Titan?",
            [("Toradora", ("tora",)), ("Attack on Titan", ("aot",))],
        ),
    ],
)
def test_names_said_in_a_question(
    index: AliasIndex, question: str, expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert said(index, question) == expected


def test_a_hit_tells_where_and_why(index: AliasIndex) -> None:
    question = "who drew ＴＯＲＡＤＯＲＡ, do you know"
    (hit,) = index.find(question)
    assert question[hit.start : hit.end] == hit.said == "ＴＯＲＡＤＯＲＡ"
    assert (hit.alias, hit.similarity, hit.reason) == ("Toradora!", 1.0, "a name of this show")


def test_an_ambiguous_name_gives_every_show(index: AliasIndex) -> None:
    (hit,) = index.find("when did rozen garten air")
    assert hit.document_ids == ("old", "new")
    assert hit.reason == "2 shows bear this name"


def test_a_name_without_its_subtitle(index: AliasIndex) -> None:
    (hit,) = index.find("who wins in Code Geass in the end")
    assert hit.document_ids == ("geass", "geass2")
    assert hit.similarity == 0.9
    assert hit.reason == "the beginning of 'Code Geass: Hangyaku'; 2 shows bear this name"


@pytest.mark.parametrize(
    ("question", "document_id"),
    [
        ("Toradroa ep count?", "tora"),
        ("is shingeki no kyogin good", "aot"),
        ("who is in atack on titan", "aot"),
        ("how old is the general mnaager of baby", "manager"),
    ],
)
def test_typos(index: AliasIndex, question: str, document_id: str) -> None:
    (hit,) = index.find(question)
    assert hit.document_ids == (document_id,)
    assert 0.8 < hit.similarity < 1
    assert hit.reason.startswith("a typo of")


def test_another_number_is_no_typo(index: AliasIndex) -> None:
    assert said(index, "did shingeki no kyojin 3 air") == [("shingeki no kyojin", ("aot",))]


@pytest.mark.parametrize(
    "question",
    [
        "which show has another world in it",
        "the one where working parents fight a monster in the air",
        "a monster that nobody else can see follows two girls",
        "what was the one with 86 pilots?",
        "One boy finds another boy in a cave",
        "Another boy finds a cave. Working there is hard",
        "he joins the Air Force and a Monster Hunter club",
        "in class K they fight",
        "a girl in her school loves her days",
        "生物の日常生活を描いた作品",
        "アニマル好きの少女",
        "みんなでぼくらのまちを守る話",
        "",
        "???",
    ],
)
def test_a_plot_holds_no_name(index: AliasIndex, question: str) -> None:
    assert index.find(question) == []


@pytest.mark.parametrize(
    ("question", "document_id"),
    [
        ("Another", "another"),
        ("what studio made another?", "another"),
        ("does anyone die in Another?", "another"),
        ('how many people die in "another" by the end', "another"),
        ("Is Naoki's Monster finished yet", "monster"),
        ("Monster: who is the villain behind it", "monster"),
        ("which band sang in Air", "air"),
        ("Who is the strongest in K", "k"),
        ("what is the 86 anime about", "86"),
        ("「日常」は全何話ですか", "nichi"),
        ("who voices the robot in 日常", "nichi"),
        ("ぼくらのは何話まで", "ours"),
    ],
)
def test_an_everyday_word_marked_as_a_name(
    index: AliasIndex, question: str, document_id: str
) -> None:
    assert [hit.document_ids for hit in index.find(question)] == [(document_id,)]


def test_capitals_tell_nothing_where_every_word_has_one(index: AliasIndex) -> None:
    assert index.find("Which Boy Meets Another Boy While Working In The Air") == []


def test_the_size_counts_names_not_spellings() -> None:
    index = AliasIndex.build([("a", "Naruto 2"), ("b", "naruto II"), ("a", "!!"), ("a", "Other")])
    assert len(index) == 2


def test_an_empty_index_finds_nothing() -> None:
    index = AliasIndex.build([])
    assert len(index) == 0
    assert index.find("naruto") == []
    assert index.rank("naruto") == []


def test_a_ranking_begins_with_the_show_that_is_named(index: AliasIndex) -> None:
    ranking = index.rank("what studio made attack on titan?")
    assert ranking[0][0] == "aot"
    assert [score for _, score in ranking] == sorted((s for _, s in ranking), reverse=True)
    assert len(index.rank("attack on titan", k=1)) == 1


@pytest.mark.parametrize(
    ("question", "document_id"),
    [
        ("Sapphire Snails Forever", "snail"),
        ("katatumuri", "snail"),
        ("カタツムリ", "snail"),
        ("ザ・サファイア・スネイル", "snail"),
        ("who directed saffire snale", "snail"),
    ],
)
def test_a_name_that_is_not_indexed_resembles_others(
    index: AliasIndex, question: str, document_id: str
) -> None:
    assert index.rank(question)[0][0] == document_id


def test_words_are_learned_to_be_each_others_translation() -> None:
    names = [
        ("a", "Kuro Tori"), ("a", "黒鳥"), ("b", "Aka Tori"), ("b", "赤鳥"),
        ("c", "Shiro Neko"), ("c", "白猫"), ("d", "Shiro Inu"), ("d", "白犬"),
        ("swan", "Shiro Tori"), *((str(i), f"Filler {i}") for i in range(20)),
    ]  # fmt: skip
    assert AliasIndex.build(names).rank("白鳥")[0][0] == "swan"


def test_the_strength_of_a_translation_by_hand() -> None:
    # 亀 stands with kame in both of its two shows; kame in two: 2 * 2 / (2 + 2)
    names = [[["kame"], ["亀"]], [["kame"], ["亀"]], [["tori"]], [["neko"]], [["inu"]]]
    assert Glossary(names).translations("亀") == [("kame", 1.0)]
    # in one and the same name they are no translation of each other
    assert Glossary([[["kame", "亀"]], [["kame", "亀"]], [["inu"]]]).translations("亀") == []
    assert Glossary(names).translations("unknown") == []


def test_kana_and_english_sound_alike() -> None:
    common = set(features_of(["こ", "る", "だ"])) & set(features_of(["corda"]))
    assert {"~ kr", "~krd", "~rd "} <= common


@given(st.text(max_size=80))
def test_any_question_is_answered(index: AliasIndex, question: str) -> None:
    for hit in index.find(question):
        assert question[hit.start : hit.end] == hit.said
        assert hit.document_ids
    index.rank(question)


def test_a_very_long_question_is_read_at_its_beginning(index: AliasIndex) -> None:
    question = "toradora " + "lorem ipsum " * 5_000 + "naruto"
    assert [hit.said for hit in index.find(question)] == ["toradora"]
