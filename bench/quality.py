"""How many planted faults are found, and how many clean rows are accused: docs/quality.md in both languages.

    python -m bench.quality [--data FOLDER]         FOLDER holds bitext/, crosswoz/ and formats/

The faults are those of the tests (tests/data/quality/planted.py), planted into rows written for it and into real data.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.data.quality.planted import KINDS, Row, clean, plant, rows_of
from xiaozao.data.checks import check
from xiaozao.data.quality.fixing import DROPPABLE
from xiaozao.data.quality.inspection import CHECKS, OF_FILE, SAFE
from xiaozao.data.quality.rewriting import ASKED
from xiaozao.spec.parts import DataSpec
from xiaozao.texts.catalogue import LANGUAGES, Language, say

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "bench" / "results" / "quality.json"
PAGES: dict[Language, Path] = {"en": ROOT / "docs" / "quality.md", "zh-CN": ROOT / "docs" / "quality.zh-CN.md"}
REAL = {
    "bitext/gpt_train.jsonl": "en",
    "bitext/canned_train.jsonl": "en",
    "crosswoz/crosswoz_400.jsonl": "zh",
    "formats/alpaca_en_demo.json": "en",
    "formats/alpaca_zh_demo.json": "zh",
}
WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "head": "# What `zao data check` finds\n\n[中文](quality.zh-CN.md)\n\nMade by `python -m bench.quality`. "
        "{kinds} kinds "
        "of fault, {each} rows of each, were planted at known rows of every file below: {found} of {planted} were "
        "found "
        '({share}).\n"Other rows" are those in which nothing was planted. In the written rows nothing else is '
        "wrong; in "
        "real data most of what is named is truly there,\nsuch as the `{blank}` of Bitext.",
        "files": "| file | planted | found | other rows | of which are named |",
        "kinds": "| kind | what | planted | found | `--fix OUT` |",
    },
    "zh-CN": {
        "head": "# `zao data check` 能发现什么\n\n[English](quality.md)\n\n由 `python -m bench.quality` 生成。把 "
        "{kinds} 种问题"
        "各 {each} 行埋进下列每个文件的已知行：\n{planted} 处中发现了 {found} "
        "处（{share}）。“其他行”指没有埋问题的行。\n"
        "自写的行没有别的问题；真实数据里报出的多半确有其事，例如 Bitext 中的 `{blank}`。",
        "files": "| 文件 | 埋入 | 发现 | 其他行 | 其中报出 |",
        "kinds": "| 种类 | 含义 | 埋入 | 发现 | `--fix OUT` |",
    },
}
EACH = 3
PSEUDONYMS = {
    "phone_cn",
    "phone_intl",
    "id_card",
    "bank_card",
    "iban",
    "ssn",
    "email",
    "messenger_id",
    "plate",
    "ip_address",
}


@dataclass(frozen=True)
class Measured:
    """One file: faults planted and found, other rows, and how many of them each kind accuses."""

    name: str
    planted: dict[str, int]
    found: dict[str, int]
    rows: int
    accused: dict[str, int]
    accused_rows: int


def measure(name: str, rows: Sequence[Row], language: str) -> Measured:
    """Plant faults among rows, and count."""
    planted = plant(list(rows), language, EACH)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "planted.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in planted.rows), encoding="utf-8")
        kinds = {found.kind: set(found.lines) for found in check(DataSpec(data=str(path)), None).findings}
    hits = Counter(kind for line, kind in planted.faults.items() if line in kinds.get(kind, ()))
    others = {kind: {line for line in lines if line not in planted.faults} for kind, lines in kinds.items()}
    return Measured(
        name=name,
        planted=dict(Counter(planted.faults.values())),
        found=dict(hits),
        rows=len(planted.rows) - len(planted.faults),
        accused={kind: len(lines) for kind, lines in sorted(others.items()) if lines},
        accused_rows=len(set().union(*others.values())),
    )


def action(kind: str, language: Language) -> str:
    """What --fix does about a kind."""
    words = {"en": ("done unasked", "no row is meant"), "zh-CN": ("默认修复", "不针对单行")}[language]
    if kind in SAFE:
        return words[0]
    flags = [f"`--repair {kind}`"] if kind in ASKED else []
    flags += ["`--pseudonymise`"] if kind in PSEUDONYMS else []
    flags += [f"`--drop {kind}`"] if kind in DROPPABLE else []
    return ", ".join(flags) or words[1]


def page(measured: Sequence[Measured], language: Language) -> str:
    """The page in one language."""
    planted, found = (sum(sum(getattr(one, name).values()) for one in measured) for name in ("planted", "found"))
    words = WORDS[language]
    head = words["head"].format(
        kinds=len(KINDS),
        each=EACH,
        planted=planted,
        found=found,
        share=f"{found / planted:.1%}",
        blank="{{Order Number}}",
    )
    lines = [head, "", words["files"], "|---|---|---|---|---|"]
    for one in measured:
        share = ", ".join(f"{kind} {count / one.rows:.2%}" for kind, count in one.accused.items()) or "–"
        lines.append(
            f"| {one.name} | {sum(one.planted.values())} | {sum(one.found.values())} | {one.rows:,} | {share} |"
        )
    lines += ["", words["kinds"], "|---|---|---|---|---|"]
    for kind in sorted({*CHECKS, *SAFE, *OF_FILE, *KINDS, *DROPPABLE, "cut_at_length"}):
        counts = [sum(getattr(one, name).get(kind, 0) for one in measured) for name in ("planted", "found")]
        shown = [str(count) if counts[0] else "–" for count in counts]
        params = {
            "path": "FILE",
            "language": "ru",
            "main": "en",
            "length": "N",
            "longest": "N",
            "rows": "N",
            "rate": "N",
        }
        what = say(f"finding.{kind}", language, **params).replace("|", "\\|")
        lines.append(f"| {kind} | {what} | {shown[0]} | {shown[1]} | {action(kind, language)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of the real data; without it only written rows are used")
    given = parser.parse_args()
    measured = [measure(f"written, {language}", clean(language, 600), language) for language in ("en", "zh")]
    for name, language in REAL.items() if given.data else ():
        measured.append(measure(name, rows_of(given.data / name), language))
        sys.stdout.write(f"{name}\n")
    RESULT.write_text(json.dumps([vars(one) for one in measured], indent=1) + "\n", encoding="utf-8")
    for shown in LANGUAGES:
        PAGES[shown].write_text(page(measured, shown), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
