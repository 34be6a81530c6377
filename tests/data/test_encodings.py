"""Encodings other than UTF-8: told from short files, named, or refused with advice; garbled text."""

import json
from pathlib import Path
from typing import Any

import pytest

from xiaozao.data.conversations import ConversationFile
from xiaozao.data.detection import detect
from xiaozao.data.formats import Conversation
from xiaozao.data.letters import LANGUAGES
from xiaozao.data.sources import open_source
from xiaozao.errors import DataError, Problem
from xiaozao.spec.parts import DataSpec
from xiaozao.spec.run import RunSpec
from xiaozao.texts.catalogue import has

TEXTS = {
    "cp949": ("안녕하세요, 주문한 상품이 아직 도착하지 않았습니다", "오늘 주문하면 언제 오나요?"),
    "johab": ("안녕하세요, 주문한 상품이 아직 도착하지 않았습니다",),
    "cp932": ("注文した商品がまだ届いていません", "ホテルの予約をキャンセルしたいです", "返品したい"),
    "iso2022_jp": ("注文した商品がまだ届いていません",),
    "euc_jp": ("注文した商品がまだ届いていません", "配送には通常二日から三日かかります。"),
    "big5": ("請問我的包裹什麼時候會到？", "您好，訂單已經出貨，謝謝您的耐心等候"),
    "gb18030": ("您好，请问有什么可以帮您？", "你好", "电子邮箱错误", "鳜鱼怎么做"),
    "cp1251": ("Где моя посылка?", "Привет, как дела", "Доброго дня! Де моє замовлення, його ще немає"),
    "koi8_r": ("Здравствуйте! Заказ отправлен, ожидайте доставку", "Привет, как дела"),
    "cp866": ("Здравствуйте! Заказ отправлен, ожидайте доставку",),
    "iso8859_5": ("Здравствуйте! Заказ отправлен, ожидайте доставку",),
    "cp1253": ("Πού είναι το δέμα μου", "Καλημέρα σας", "ευχαριστώ πολύ"),
    "cp1255": ("איפה החבילה שלי", "שלום, ההזמנה בדרך אליך"),
    "cp1256": ("مرحبا، كيف حالك؟ جيد شكرا", "أين طلبي؟"),
    "cp874": ("สวัสดีครับ พัสดุของฉันอยู่ที่ไหน", "ส่งสินค้าวันไหน"),
    "cp1252": (
        *(
            "Où est l'été déjà né ?,Là-bas, mon café crème",
            "Straße, Größe, Tür",
            "¿Dónde está mi pedido? Mañana",
            "café",
        ),
        *("Não, obrigado. Até amanhã, coração", "På gården står en flygande høne", "It’s “fine” — really…"),
    ),
    "cp1250": ("Gdzie jest moja paczka? Zażółć gęślą jaźń", "Kde je můj balík? Příliš žluťoučký kůň"),
    "iso8859_2": ("Gdzie jest moja paczka? Zażółć gęślą jaźń", "Kde je můj balík? Příliš žluťoučký kůň"),
    "cp1254": ("Siparişim nerede? Teşekkürler, yarın gelir",),
    "cp1257": ("Kur yra mano siuntinys? Ačiū, labai džiaugiuosi, šiandien ąžuolas",),
    "mac_roman": ("Où est l'été déjà né ?, mon café crème, Là-bas",),
}
SHORT = [(encoding, text) for encoding, texts in TEXTS.items() for text in texts]


def read(path: Path, **options: Any) -> tuple[ConversationFile, list[Any]]:
    file = ConversationFile(path, DataSpec(data=str(path), **options))
    return file, list(file)


@pytest.mark.parametrize(("encoding", "text"), SHORT)
def test_one_short_line_tells_its_encoding(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f'question,answer\n"{text}",ok\n'.encode(encoding))
    file, verdicts = read(path)
    assert isinstance(verdicts[0], Conversation) and verdicts[0].turns[0].content == text
    told = [note.key for note in file.notes]
    assert told == ([] if encoding == "gb18030" else ["note_encoding"])


@pytest.mark.parametrize("raw", [b"caf\xff\xfe", b"\xff\xfe", b"\xe4\xe0"])
def test_bytes_that_tell_too_little_are_not_guessed_and_the_note_names_encodings(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"question,answer\nq" + b" " + raw + b",a\n")
    file, verdicts = read(path)
    assert isinstance(verdicts[0], Problem) and verdicts[0].key == "row_encoding"
    note = next(note for note in file.notes if note.key == "note_encoding_unknown")
    assert "encoding=NAME" in note.text() and "cp949" in note.text() and "encoding=名称" in note.text("zh-CN")


def test_the_advice_to_name_the_encoding_works(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("question,answer\nда,нет\n".encode("cp1251"))
    assert isinstance(read(path)[1][0], Problem)
    _, (talk,) = read(path, encoding="windows-1251")
    assert [turn.content for turn in talk.turns] == ["да", "нет"]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("GBK", "gb18030"),
        ("Shift-JIS", "cp932"),
        ("UTF8", "utf-8"),
        ("euc-kr", "cp949"),
        ("latin-1", "iso8859-1"),
        ("auto", "auto"),
    ],
)
def test_any_encoding_that_python_knows_can_be_named(asked: str, name: str) -> None:
    assert DataSpec(data="x", encoding=asked).encoding == name


@pytest.mark.parametrize("asked", ["foo", "base64", "rot13", "cp037", "unicode_escape", "idna", ""])
def test_what_is_no_encoding_of_text_is_refused(asked: str) -> None:
    with pytest.raises(Exception, match="encoding"):
        RunSpec.from_options({"model": "none", "data": "x.csv", "encoding": asked})


@pytest.mark.parametrize("encoding", ["cp949", "cp932", "big5hkscs", "cp1251", "iso2022_jp"])
def test_a_json_file_in_another_encoding_is_read_whole(tmp_path: Path, encoding: str) -> None:
    text = {
        "cp949": "안녕하세요 배송은 언제 오나요",
        "cp932": "注文した商品がまだです",
        "big5hkscs": "請問什麼時候會到",
    }.get(encoding, "Привет, как дела")
    text = "注文した商品" if encoding == "iso2022_jp" else text
    rows = [{"question": f"{text} {n}", "answer": text} for n in range(3)]
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(rows, ensure_ascii=False, indent=1).encode(encoding))
    _, verdicts = read(path, encoding=encoding)
    assert [verdict.turns[0].content for verdict in verdicts] == [f"{text} {n}" for n in range(3)]


def test_one_broken_byte_leaves_utf8_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [f"вопрос {n},ответ".encode() for n in range(3)]
    path.write_bytes(b"question,answer\n" + b"\n".join([*lines, b"caf\xe9,a"]) + b"\n")
    assert open_source(path).encoding == "utf-8"


def test_text_in_the_wrong_encoding_that_was_named_is_a_warning_whose_advice_works(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        "question,answer\n주문한 상품이 아직 도착하지 않았습니다,배송은 보통 이틀이 걸립니다\n".encode("cp949")
    )
    file, _ = read(path, encoding="gb18030")
    (note,) = file.notes
    assert (note.key, note.params["encoding"], note.params["asked"]) == ("note_encoding_other", "cp949", "gb18030")
    assert "encoding=cp949" in note.text("zh-CN") and "Korean" in note.text() and "韩文" in note.text("zh-CN")
    assert read(path, encoding="cp949")[0].notes == ()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("您好，请问有什么可以帮您？", "latin_1"),
        ("mon café crème", "cp1252"),
        ("您好，请问有什么", "gb18030"),
        ("Где моя посылка", "cp1251"),
    ],
)
def test_utf8_that_was_garbled_before_is_a_warning(tmp_path: Path, text: str, wrong: str) -> None:
    garbled = text.encode().decode(wrong, errors="replace")
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": garbled, "answer": "ok"}, ensure_ascii=False), encoding="utf-8")
    (note,) = read(path)[0].notes
    assert note.key in ("note_mojibake", "note_replaced") and (note.key == "note_replaced" or note.params["better"])


def test_korean_that_was_stored_as_chinese_is_a_warning(tmp_path: Path) -> None:
    garbled = "주문한 상품이 아직 도착하지 않았습니다".encode("cp949").decode("gb18030")
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": garbled, "answer": garbled}, ensure_ascii=False), encoding="utf-8")
    (note,) = read(path)[0].notes
    assert (note.key, note.params["encoding"]) == ("note_mojibake_legacy", "cp949")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "您好，请问有什么可以帮您？",
            "鳜鱼、饕餮、魑魅魍魉",
            "café crème à l'été",
            "Straße",
            "注文した商品がまだです",
            "주문한 상품이 아직",
        ),
        *(
            "Где моя посылка",
            "“ok” – fine…",
            "naïve",
            "π ≈ 3.14159, √2",
            "😀 😂 ok",
            "請問什麼時候會到",
            "é",
            "您",
            "ＡＢＣ１２３",
        ),
    ],
)
def test_plain_text_is_no_mojibake(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": text, "answer": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read(path)[0].notes == ()


def test_every_language_has_a_name_and_encodings_that_python_knows() -> None:
    for language in LANGUAGES:
        assert has(f"script.{language.name}")
        assert all("a".encode(encoding) == b"a" for encoding in language.encodings)
    assert detect([]) is None and detect([b"plain"]) is None


@pytest.mark.parametrize(("text", "count"), [("?????????", 2), ("???? ??!", 2), ("what??? really", 0), ("???", 0)])
def test_texts_of_question_marks_alone_are_told(tmp_path: Path, text: str, count: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": text, "answer": text}) + "\n", encoding="utf-8")
    assert [note.params.get("count") for note in read(path)[0].notes] == [count] * bool(count)


SEVEN = [("您好，请问我的快递到哪里了", "您好，已经发出"), ("可以退货吗", "可以的，七天内")]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_hz_is_read_and_told(tmp_path: Path, suffix: str) -> None:
    rows = [{"question": question, "answer": answer} for question, answer in SEVEN]
    text = {
        "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        "json": json.dumps(rows, ensure_ascii=False, indent=1),
        "csv": "question,answer\n" + "".join(f"{question},{answer}\n" for question, answer in SEVEN),
    }[suffix]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(text.encode("hz"))
    assert path.read_bytes().isascii()
    file = ConversationFile(path, DataSpec(data=str(path)))
    assert [[turn.content for turn in one.turns] for one in file if isinstance(one, Conversation)] == [
        list(pair) for pair in SEVEN
    ]
    assert [note.params["encoding"] for note in file.notes if note.key == "note_encoding"] == ["hz"]
    assert open_source(path, "hz").encoding == "hz"


@pytest.mark.parametrize("text", ["您好，请问我的快递到哪里了", "Où est l'été déjà né, là-bas", "Где моя посылка?"])
def test_utf_7_is_refused_with_advice_that_works(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps({"question": text, "answer": text}, ensure_ascii=False).encode("utf-7"))
    with pytest.raises(DataError) as caught:
        open_source(path)
    assert caught.value.key == "data_utf7" and "UTF-8" in caught.value.fix("en") and has("error.data_utf7.fix")
    path.write_bytes(path.read_bytes().decode("utf-7").encode("utf-8"))
    file = ConversationFile(path, DataSpec(data=str(path)))
    assert [turn.content for one in file if isinstance(one, Conversation) for turn in one.turns] == [text, text]


PLAIN = [
    "call +8613800138000 or +1-555-0100 please",
    "C++ and a+b, x+yz-w, 1+1=2, a+bc+de",
    "a block ~{ x = 1; y = 2 ~} of code",
    "base64: QUJD+REVG/SElK-TE1O",
    "me+shop@example.org, you+tag@example.org",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_ascii_is_taken_for_nothing_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": text, "answer": text}), encoding="ascii")
    assert open_source(path).encoding == "utf-8"
