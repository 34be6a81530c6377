"""How many held-out questions have a near twin in training, by chance and by groups: `python -m bench.split`.

    ZAO_DATA=FOLDER python -m bench.split            the files below, and the table of docs/data.md
    python -m bench.split a.jsonl,b.jsonl            other files, without the table

The reference is not the code that divides: a plain cosine of TF-IDF weights of character n-grams, over all pairs.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from math import log, sqrt
from pathlib import Path

from bench.rig.data import find_data
from bench.rig.results import write_rows
from bench.rig.task import RESULTS
from xiaozao.data.conversations import read_conversations
from xiaozao.data.division import TRAIN, VALIDATION, Shares, assign
from xiaozao.data.groups import asked
from xiaozao.data.survey import Survey
from xiaozao.data.twins import Twins, normalised
from xiaozao.spec.parts import DataSpec

FILE = RESULTS / "split.jsonl"
DOCS = Path(__file__).parents[1] / "docs"
PAGES = (DOCS / "data.md", DOCS / "data.zh-CN.md")
FILES = ("canned_train.jsonl", "canned_val.jsonl", "canned_test.jsonl")
WAYS = {"by chance": "随机", "zao data split": "zao data split"}
SEEDS = 5


@dataclass(frozen=True)
class Split:
    """One way to divide: the share of the held-out rows with a near twin in training, over SEEDS seeds together."""

    rows: int
    way: str
    held: int
    twins: float
    alike: float
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    given = parser.parse_args().data
    data = given or ",".join(str(find_data(name)) for name in FILES)
    splits = measured(data)
    for split in splits:
        sys.stdout.write(json.dumps(asdict(split)) + "\n")
    if not given:
        write_rows(FILE, splits)
        for page, chinese in zip(PAGES, (False, True), strict=True):
            page.write_text(with_table(page.read_text(encoding="utf-8"), splits, chinese), encoding="utf-8")
    return 0


def measured(data: str) -> list[Split]:
    """Divide by chance and by groups, and look for twins across."""
    surveyed, texts = Survey(twins=Twins()), list[str]()
    for conversation in read_conversations(DataSpec(data=data)):
        surveyed.add(conversation, None)
        texts.append(asked(conversation))
    nearest = Nearest(texts)
    count, splits = len(texts), []
    for way in WAYS:
        begun, tally, held = time.process_time(), Counter[str](), 0
        for seed in range(SEEDS):
            if way == "by chance":
                chosen = set(random.Random(seed).sample(range(count), count // 10))
                parts = [VALIDATION if index in chosen else TRAIN for index in range(count)]
            else:
                parts, _ = assign(surveyed, Shares(questions=0, seed=seed), Path(data))
            seconds = (time.process_time() - begun) / (seed + 1)
            cosines = nearest.across(parts)
            held += len(cosines)
            tally.update(twins=sum(one >= 0.9 for one in cosines), alike=sum(one >= 0.8 for one in cosines))
        splits.append(Split(count, way, held, tally["twins"] / held, tally["alike"] / held, round(seconds, 2)))
    return splits


class Nearest:
    """All pairs of texts with a TF-IDF cosine of 0.8 or more, found through an inverted index."""

    def __init__(self, texts: list[str]) -> None:
        counts = [_grams(normalised(text)) for text in texts]
        holders = Counter(gram for one in counts for gram in one)
        weights = []
        for grams in counts:
            weighted = {
                gram: count * (log((1 + len(texts)) / (1 + holders[gram])) + 1) for gram, count in grams.items()
            }
            norm = sqrt(sum(weight**2 for weight in weighted.values()))
            weights.append({gram: weight / norm for gram, weight in weighted.items()})
        index: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.near: list[dict[int, float]] = [{} for _ in texts]
        for place, one in enumerate(weights):
            dots: dict[int, float] = defaultdict(float)
            for gram, weight in one.items():
                for other, there in index[gram]:
                    dots[other] += weight * there
                index[gram].append((place, weight))
            for other, dot in dots.items():
                if dot >= 0.8:
                    self.near[place][other] = self.near[other][place] = dot

    def across(self, parts: list[str]) -> list[float]:
        """For each held-out text the greatest cosine with one in training, 0 below 0.8."""
        return [
            max((cosine for other, cosine in near.items() if parts[other] == TRAIN), default=0.0)
            for near, part in zip(self.near, parts, strict=True)
            if part == VALIDATION
        ]


def _grams(text: str) -> Counter[str]:
    padded = f" {text} "
    return Counter(padded[at : at + size] for size in (3, 4, 5) for at in range(len(padded) - size + 1))


def with_table(page: str, splits: list[Split], chinese: bool) -> str:
    """The page with the rows of its table replaced."""
    lines, out, inside = page.splitlines(), list[str](), False
    for number, line in enumerate(lines):
        starts = line.startswith("|---") and "(0.8)" in lines[number - 1].replace("（0.8）", "(0.8)")
        if starts:
            out.append(line)
            out += [
                f"| {one.rows:,} | {WAYS[one.way] if chinese else one.way} | {one.twins:.1%} | {one.alike:.1%} |"
                for one in splits
            ]
            inside = True
        elif not (inside and line):
            inside = False
            out.append(line)
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    sys.exit(main())
