"""Clean rows in two languages, and forty and more kinds of fault that are planted among them at known lines.

rows = clean("zh", 400)
planted = plant(rows, "zh", each=3)         planted.rows, planted.faults = {line: kind}
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.data.quality.faults import APPENDED, FOREIGN, LONG_QUESTIONS, REPLACED, Texts
from xiaozao.data.conversations import ConversationFile
from xiaozao.data.formats import Conversation
from xiaozao.spec.parts import DataSpec

Row = dict[str, Any]

THINGS = {
    "en": "kettle lamp backpack blender keyboard tent umbrella raincoat toaster mattress violin scooter drone freezer "
    "notebook saddle ladder helmet printer carpet mirror charger thermos wardrobe bicycle".split(),
    "zh": "水壶 台灯 背包 榨汁机 键盘 帐篷 雨伞 冲锋衣 烤箱 床垫 小提琴 滑板车 无人机 冰柜 笔记本 马鞍 梯子 头盔 "
    "打印机 地毯 镜子 充电器 保温杯 衣柜 自行车".split(),
}
COLOURS = {
    "en": "crimson azure golden ivory emerald purple orange turquoise charcoal silver scarlet beige".split(),
    "zh": "深红 天蓝 金色 米白 翠绿 紫色 橙色 碧绿 炭黑 银灰 朱红 浅驼".split(),
}
TOWNS = {
    "en": "Lisbon Oslo Kyoto Lima Dublin Vienna Quito Cairo Perth Naples Zagreb Tallinn Hobart Malaga".split(),
    "zh": "昆明 哈尔滨 厦门 兰州 青岛 成都 贵阳 太原 珠海 拉萨 桂林 洛阳 温州 烟台".split(),
}
QUESTIONS = {
    "en": [
        "My {c} {a} reached {d} without {b}, and now?",
        "Warranty of {a} plus {b} in {d}, please?",
        "May I try a {c} {a} and some {b} anywhere in {d}?",
        "Would {a} and {c} {b} fit one parcel for {d}?",
        "Is that {a} sold in {c}, does {b} from {d} match?",
        "Who in {d} repairs {a} crushed by a {c} {b}?",
        "Swap {c} {a} for {b} once opened in {d}?",
        "When is {c} {a} back at {d}? {b} can wait.",
    ],
    "zh": [
        "寄到{d}的{c}{a}里没有{b}，接下来怎么处理？",
        "{c}{a}和{b}一起发{d}，保修期各是多久？",
        "{d}有没有门店可以试用{c}{a}，顺便看看{b}？",
        "{a}能和{c}{b}装在同一个包裹里寄往{d}吗？",
        "{a}有没有{c}的，跟{d}买的{b}搭不搭？",
        "在{d}被{b}压坏的{c}{a}应该找谁维修？",
        "人在{d}，拆了包装的{c}{a}还可以换成{b}吗？",
        "{d}仓库的{c}{a}大概什么时候补货？{b}倒是不急。",
    ],
}
ANSWERS = {
    "en": [
        "We are sorry about that. Please send us a picture of the {a}, and the {b} leaves our warehouse the next "
        "morning.",
        "The {a} is covered for two years from the day it reaches you. For the {b} the maker grants a third year.",
        "Yes, the branch at the old harbour keeps one {a} and one {b} on display. It opens at nine on working days.",
        "They travel together as long as the {b} is packed flat. Otherwise the {a} is sent first, at no extra cost.",
        "It comes in sand, slate and moss. Most people who own the {b} choose slate, since both share the same "
        "handles.",
        "Our workshop takes care of it. Bring the {a} with its receipt; a broken {b} is looked at on the same visit.",
        "That works within thirty days, provided the {a} is unused. The {b} is reserved for you in the meantime.",
        "The next delivery is due early in spring. We will write to you as soon as the {a} can be ordered, the {b} "
        "as well.",
    ],
    "zh": [
        "给您添麻烦了。请把{a}的照片发给我们，{b}明天上午就从仓库寄出。",
        "{a}从签收当天起保修两年，{b}由厂家再延长一年。",
        "有的，老港口分店陈列着{a}和{b}，工作日上午九点开门。",
        "只要{b}平放就可以同箱寄送，否则{a}会先发出，不另收运费。",
        "目前有沙色、石板灰和苔绿三种，买{b}的客人大多选石板灰，把手是同款。",
        "由我们的维修间负责，带上{a}和购买凭证即可，{b}也会一并检查。",
        "三十天内未使用的{a}都可以换，{b}会先替您留着。",
        "下一批预计初春到货，{a}能下单时我们会立刻通知您，{b}也一样。",
    ],
}


@dataclass(frozen=True)
class Planted:
    """Rows with faults among them. faults: the kind that was planted, by line from 1."""

    rows: list[Row]
    faults: dict[int, str]


def row(question: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def clean(language: str, count: int) -> list[Row]:
    """Rows without a fault; each has another question."""
    pairs = [(a, b) for a in THINGS[language] for b in THINGS[language] if a != b]
    random.Random(5).shuffle(pairs)
    rows = []
    for index in range(count):
        a, b = pairs[index]
        place = index % len(QUESTIONS[language])
        c, d = COLOURS[language][index % 12], TOWNS[language][index * 5 % 14]
        rows.append(
            row(QUESTIONS[language][place].format(a=a, b=b, c=c, d=d), ANSWERS[language][place].format(a=a, b=b))
        )
    return rows


Plant = Callable[[Row, int, str], list[Row]]


def _appended(texts: Texts) -> Plant:
    def plant(source: Row, variant: int, language: str) -> list[Row]:
        text = texts[variant % len(texts)][language == "zh"]
        return [row(source["messages"][0]["content"], source["messages"][-1]["content"].rstrip() + text)]

    return plant


def _replaced(texts: Texts) -> Plant:
    def plant(source: Row, variant: int, language: str) -> list[Row]:
        return [row(source["messages"][0]["content"], texts[variant % len(texts)][language == "zh"])]

    return plant


def _duplicate(source: Row, variant: int, language: str) -> list[Row]:
    return [source, source]


def _near(source: Row, variant: int, language: str) -> list[Row]:
    question, answer = LONG_QUESTIONS[language][variant % 3], source["messages"][-1]["content"]
    return [row(question, answer), row(question[:-1] + ("!?" if language == "en" else "呢？"), answer)]


def _contradiction(source: Row, variant: int, language: str) -> list[Row]:
    question = source["messages"][0]["content"] + (" Honestly." if language == "en" else "请如实说。")
    pairs = {
        "en": (
            ("It takes 3 days.", "It takes 14 days."),
            ("Yes, that is free of charge for every member.", "Unfortunately that is not possible."),
            ("The fee is 20 euros for each parcel.", "The fee is 35 euros for each parcel."),
        ),
        "zh": (
            ("大约需要3天时间。", "大约需要14天时间。"),
            ("可以的，会员都免费。", "不支持这项服务，请谅解。"),
            ("每件收费20元，签收时付。", "每件收费35元，签收时付。"),
        ),
    }
    first, second = pairs[language][variant % 3]
    return [row(question, first), row(question, second)]


def _echo(source: Row, variant: int, language: str) -> list[Row]:
    question = source["messages"][0]["content"]
    return [row(question, question)]


def _turns(source: Row, *turns: tuple[str, str]) -> list[Row]:
    return [{"messages": [{"role": role, "content": content} for role, content in turns]}]


def _same_role(source: Row, variant: int, language: str) -> list[Row]:
    question, answer = source["messages"][0]["content"], source["messages"][-1]["content"]
    hello = ("Hello there", "在吗")[language == "zh"]
    both = (
        [("user", hello), ("user", question), ("assistant", answer)],
        [("user", question), ("assistant", hello), ("assistant", answer)],
    )
    return _turns(source, *both[variant % 2])


def _repeated(source: Row, variant: int, language: str) -> list[Row]:
    question, answer = source["messages"][0]["content"], source["messages"][-1]["content"]
    return _turns(source, ("user", question), ("assistant", answer), ("user", question), ("assistant", answer))


def _swapped(source: Row, variant: int, language: str) -> list[Row]:
    greeting = ("Hello, how can I help you today?", "您好，请问有什么可以帮您？")[language == "zh"]
    return _turns(source, ("user", greeting), ("assistant", source["messages"][0]["content"]))


def _late_system(source: Row, variant: int, language: str) -> list[Row]:
    question, answer = source["messages"][0]["content"], source["messages"][-1]["content"]
    return _turns(
        source, ("user", question), ("system", ("Be polite.", "请礼貌。")[language == "zh"]), ("assistant", answer)
    )


def _trailing(source: Row, variant: int, language: str) -> list[Row]:
    thanks = ("Thanks, and the other one?", "谢谢，那另一件呢？")[language == "zh"]
    return [{"messages": [*source["messages"], {"role": "user", "content": thanks}]}]


def _empty(source: Row, variant: int, language: str) -> list[Row]:
    return [row(source["messages"][0]["content"], ("", "  ", "\n")[variant % 3])]


def _no_answer(source: Row, variant: int, language: str) -> list[Row]:
    return [{"messages": source["messages"][:1]}]


def _foreign(source: Row, variant: int, language: str) -> list[Row]:
    return [row(*FOREIGN[variant % 3])] if variant < 2 else [row("¿Cuándo llega mi pedido si vivo en el campo y no "
                                                                 "hay nadie en la casa?",
            "El pedido llega en tres días y el mensajero le llama por teléfono antes de la entrega.")]  # fmt: skip


def _outlier(source: Row, variant: int, language: str) -> list[Row]:
    words = random.Random(variant)
    more = [" ".join(words.choices(THINGS["en"], k=9)) + "." for _ in range(300)] if language == "en" else [
        "".join(words.choices(THINGS["zh"], k=9)) + "。" for _ in range(300)]  # fmt: skip
    return [row(source["messages"][0]["content"], " ".join(more))]


KINDS: dict[str, Plant] = {
    **{kind: _appended(texts) for kind, texts in APPENDED.items()},
    **{kind: _replaced(texts) for kind, texts in REPLACED.items()},
    "duplicate": _duplicate, "near_duplicate": _near, "contradiction": _contradiction, "echo": _echo,
    "same_role": _same_role, "repeated_turn": _repeated, "swapped": _swapped, "late_system": _late_system,
    "trailing_turn": _trailing, "empty_answer": _empty, "no_answer": _no_answer, "minority_language": _foreign,
    "length_outlier": _outlier,
}  # fmt: skip


def plant(rows: list[Row], language: str, each: int = 3, seed: int = 1) -> Planted:
    """The rows with `each` rows of every kind among them. What a fault needs before it stands right before it."""
    order = random.Random(seed)
    sources = order.sample(rows, len(KINDS) * each)
    gone = {id(source) for source in sources}
    pieces: list[list[tuple[Row, str]]] = [[(source, "")] for source in rows if id(source) not in gone]
    for index, source in enumerate(sources):
        kind, variant = list(KINDS)[index % len(KINDS)], index // len(KINDS)
        *before, faulty = KINDS[kind](source, variant, language)
        pieces.append([*((one, "") for one in before), (faulty, kind)])
    order.shuffle(pieces)
    flat = [pair for piece in pieces for pair in piece]
    return Planted([values for values, _ in flat], {line: kind for line, (_, kind) in enumerate(flat, 1) if kind})


def rows_of(path: Path) -> list[Row]:
    """The rows of a file as messages."""
    rows = []
    for conversation in ConversationFile(path, DataSpec(data=str(path))):
        if isinstance(conversation, Conversation):
            turns = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
            rows.append({"messages": turns, **conversation.labels})
    return rows
