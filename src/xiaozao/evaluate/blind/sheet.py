"""A blind vote as a file to hand to a colleague: one HTML page without a single request to anywhere, or a CSV table.

Both hold the questions, the answers and the name of the vote, and nothing that tells the sides: no model, no run, no
time, no length.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

from xiaozao.evaluate.blind.ballot import Ballot, Pair
from xiaozao.texts.catalogue import LANGUAGES, Language, catalogue, say

TEMPLATE = Path(__file__).with_name("sheet.html.j2")
FORMAT = "xiaozao-votes"
COLUMNS = ("sheet", "pair", "voter", "question", "answer_a", "answer_b")
PREFIX = "blind.sheet."


def html_sheet(ballot: Ballot, pairs: Sequence[Pair], voter: str, language: Language) -> str:
    """The page. pairs: in the order of the voter; voter: a name to begin with, or empty."""
    environment = SandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    texts = {
        one: {key.removeprefix(PREFIX): text for key, text in catalogue(one).items() if key.startswith(PREFIX)}
        for one in LANGUAGES
    }
    data = {
        "format": FORMAT, "sheet": ballot.name, "hash": ballot.hash, "commitment": ballot.commitment,
        "voter": voter, "language": language, "same": ballot.same, "pairs": [asdict(pair) for pair in pairs],
    }  # fmt: skip
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        language=language, texts=texts[language], data=_embedded(data), words=_embedded(texts)
    )


def csv_sheet(ballot: Ballot, pairs: Sequence[Pair], voter: str, language: Language) -> str:
    """The table, with a byte order mark, by which spreadsheets know UTF-8. The last column is to be filled in."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow([*COLUMNS, say("blind.csv_vote", language)])
    for pair in pairs:
        shown = (_harmless(cell) for cell in (pair.question, pair.a, pair.b))
        table.writerow([ballot.name, pair.id, _harmless(voter), *shown, ""])
    return "\ufeff" + text.getvalue()


def _harmless(cell: str) -> str:
    """A cell that a spreadsheet does not take for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t")) else cell


def _embedded(document: object) -> Markup:
    """JSON for a script element: nothing in it can end the element."""
    text = json.dumps(document, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
