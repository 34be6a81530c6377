"""The form that answers have to keep: learned from the user's own answers, editable as a file, checked by a machine.

    json     every answer is a JSON object: a JSON Schema (types, required keys, closed lists of values)
    label    every answer is one of a few words: the list of them
    text     length, language, a fixed beginning or end, what must and must not occur, a regular expression

`breaches` says everything that is wrong with one answer. An answer keeps the form strictly as it stands, or leniently
after what people forgive is taken off: a code fence, words around a JSON object, a full stop behind a label.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft202012Validator, SchemaError

from xiaozao.errors import DataError, NotFound
from xiaozao.evaluate.contract import read_object
from xiaozao.evaluate.pattern import TIMED, compiles, is_whole, patterns_in
from xiaozao.evaluate.scorers import plain

Kind = Literal["json", "label", "text"]
FENCE = re.compile(r"^```[\w-]*\s*\n(.*?)\n?```\s*$", re.DOTALL)
CHINESE, LATIN = re.compile(r"[\u3400-\u9fff]"), re.compile(r"[A-Za-z]")
SHARE = 0.98  # of the answers, that makes something a rule
LABELS, LABEL = 30, 40  # at most so many labels, of so many characters
OFTEN = 3  # how often a label or a value occurs on average before a list of them is closed
AFFIX = 4  # characters that a fixed beginning or end has at least
SLACK = 1.5  # how much longer than the longest answer an answer may be, and shorter than the shortest
FEW = 5  # answers; fewer teach no form


@dataclass(frozen=True)
class Form:
    """What is asked of an answer; None and empty ask nothing. Lengths are characters.

    language: "zh" or "en". must, must_not: texts that each answer has, or has not.
    """

    kind: Kind = "text"
    schema: Mapping[str, Any] | None = None
    labels: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None
    language: str | None = None
    begins: str = ""
    ends: str = ""
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    pattern: str | None = None

    @property
    def asks_nothing(self) -> bool:
        return self == Form()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Breach:
    """One thing that is wrong: the text `breach.<key>` with its parameters."""

    key: str
    params: Mapping[str, object]


def learn_form(answers: Sequence[str]) -> Form:
    """The form that (nearly) all of the answers keep."""
    texts = [text.strip() for text in answers if text.strip()]
    if len(texts) < FEW:
        return Form()
    objects = [parsed for text in texts if (parsed := read_object(text)) is not None]
    if len(objects) >= SHARE * len(texts):
        return Form(kind="json", schema=_schema(objects), language=_language(texts))
    counted = Counter(texts)
    if len(counted) <= LABELS and len(texts) >= OFTEN * len(counted) and max(map(len, counted)) <= LABEL:
        return Form(kind="label", labels=tuple(sorted(counted)))
    lengths = sorted(map(len, texts))
    fenced = any("```" in text for text in texts)
    return Form(
        least=max(1, int(lengths[0] / SLACK)),
        most=int(lengths[-1] * SLACK) + 1,
        language=_language(texts),
        begins=_affix(texts, 1),
        ends=_affix(texts, -1),
        must_not=() if fenced else ("```",),
    )


def breaches(text: str, form: Form) -> tuple[Breach, ...]:
    """All that is wrong with an answer, as it stands. Raises SlowPattern."""
    told: list[Breach] = []
    if form.kind == "json":
        told += _against_schema(text, form.schema or {})
    elif form.kind == "label" and text.strip() not in form.labels:
        told.append(Breach("label", {"labels": ", ".join(form.labels[:8])}))
    size = len(text.strip())
    if form.least is not None and size < form.least:
        told.append(Breach("short", {"size": size, "least": form.least}))
    if form.most is not None and size > form.most:
        told.append(Breach("long", {"size": size, "most": form.most}))
    if form.language is not None and written_in(text) not in (form.language, None):
        told.append(Breach("language", {"language": form.language}))
    if not text.strip().startswith(form.begins):
        told.append(Breach("begins", {"text": form.begins}))
    if not text.strip().endswith(form.ends):
        told.append(Breach("ends", {"text": form.ends}))
    told += [Breach("must", {"text": one}) for one in form.must if one not in text]
    told += [Breach("must_not", {"text": one}) for one in form.must_not if one in text]
    if form.pattern is not None and not is_whole(form.pattern, text.strip()):
        told.append(Breach("pattern", {"pattern": form.pattern}))
    return tuple(told)


def forgiven(text: str, form: Form) -> str:
    """The answer without what people forgive."""
    text = text.strip()
    if match := FENCE.match(text):
        text = match[1].strip()
    if form.kind == "json" and read_object(text) is None and "{" in text:
        inner = text[text.index("{") : text.rfind("}") + 1]
        return inner if read_object(inner) is not None else text
    if form.kind == "label":
        said = plain(text).rstrip(".。!！ ").casefold()
        return next((label for label in form.labels if plain(label).casefold() == said), text)
    return text


def read_form(path: Path) -> Form:
    """A form that the user wrote or edited. Raises NotFound, DataError with the field that is wrong."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise NotFound("file", name="--contract", path=path) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("form_unreadable", path=path, detail=error) from None
    known = {one.name for one in fields(Form)}
    if not isinstance(document, dict) or (unknown := sorted(set(document) - known)):
        names = ", ".join(map(str, unknown)) if isinstance(document, dict) else type(document).__name__
        raise DataError("form_fields", path=path, names=names, known=", ".join(sorted(known)))
    wrong = [name for name, value in document.items() if not _fits(name, value)]
    if wrong or (wrong := _at_odds(document)):
        raise DataError("form_values", path=path, names=", ".join(wrong))
    lists = {name: tuple(document[name]) for name in ("labels", "must", "must_not") if name in document}
    return Form(**{**document, **lists})


def _at_odds(document: Mapping[str, Any]) -> list[str]:
    """The fields of a form that no answer could keep together, or without which its kind says nothing."""
    least, most, kind = document.get("least"), document.get("most"), document.get("kind")
    if least is not None and most is not None and least > most:
        return ["least", "most"]
    if kind == "label" and not document.get("labels"):
        return ["labels"]
    return ["schema"] if kind == "json" and document.get("schema") is None else []


def _fits(name: str, value: object) -> bool:
    """Whether a field of a form's file has a value that it can have."""
    match name:
        case "kind":
            return value in ("json", "label", "text")
        case "labels" | "must" | "must_not":
            return isinstance(value, list) and all(isinstance(one, str) and one for one in value)
        case "least" | "most":
            return value is None or isinstance(value, int) and not isinstance(value, bool) and value >= 0
        case "language":
            return value in (None, "zh", "en")
        case "begins" | "ends":
            return isinstance(value, str)
        case "pattern":
            return value is None or isinstance(value, str) and compiles(value)
    return value is None or isinstance(value, dict) and _is_schema(value)


def _is_schema(schema: Mapping[str, Any]) -> bool:
    try:
        Draft202012Validator.check_schema(dict(schema))
    except (SchemaError, RecursionError, OverflowError):
        return False
    # Nothing is fetched for a schema, and each pattern in it is matched with a limit of time.
    return not _refers(schema) and all(map(compiles, patterns_in(schema))) and not _untimed(schema)


def _refers(schema: object) -> bool:
    """Whether a schema, or a part of it, points to another one."""
    if isinstance(schema, list):
        return any(_refers(part) for part in schema)
    if not isinstance(schema, dict):
        return False
    if any(isinstance(schema.get(name), str) for name in ("$ref", "$dynamicRef", "$recursiveRef")):
        return True
    return any(_refers(part) for name, part in schema.items() if name not in ("enum", "const", "default", "examples"))


def _untimed(schema: Mapping[str, Any]) -> bool:
    """Whether the library would match patterns of the schema by itself, without a limit of time."""
    parts = [part for name, part in schema.items() if name not in ("enum", "const", "default", "examples")]
    keys = _keywords(dict(schema))
    nested = any("$schema" in _keywords(part, str) for part in parts)
    return nested or {"unevaluatedProperties", "patternProperties"} <= keys


def _keywords(schema: object, kind: type = object) -> set[str]:
    """The names of all fields of a schema and its parts whose values are of one kind."""
    if isinstance(schema, list):
        return {name for part in schema for name in _keywords(part, kind)}
    if not isinstance(schema, dict):
        return set()
    below = {name for part in schema.values() for name in _keywords(part, kind)}
    return below | {name for name, value in schema.items() if isinstance(value, kind)}


def _against_schema(text: str, schema: Mapping[str, Any]) -> list[Breach]:
    given = read_object(text)
    if given is None:
        return [Breach("not_json", {})]
    told: dict[str, Breach] = {}
    try:
        for error in TIMED(dict(schema)).iter_errors(given):
            where = ".".join(map(str, error.absolute_path)) or f"({error.validator})"
            told.setdefault(where, Breach("schema", {"where": where, "what": error.message[:160]}))
    except (ArithmeticError, RecursionError):  # a number beyond any that a machine computes with, or too many brackets
        return [Breach("not_json", {})]
    return [told[where] for where in sorted(told)]


def _schema(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A JSON Schema that all of the objects keep; a key is required if nearly all of them have it."""
    keys = dict.fromkeys(key for one in objects for key in one)
    properties = {key: _values([one[key] for one in objects if key in one]) for key in keys}
    required = [key for key in keys if sum(key in one for one in objects) >= SHARE * len(objects)]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _values(values: Sequence[Any]) -> dict[str, Any]:
    """Types of a field's values; a list of them where few texts return again and again."""
    types = sorted({_type(one) for one in values})
    schema: dict[str, Any] = {"type": types[0] if len(types) == 1 else types}
    texts = {one for one in values if isinstance(one, str)}
    if types == ["string"] and len(texts) <= LABELS and len(values) >= OFTEN * len(texts):
        schema["enum"] = sorted(texts)
    nested = [one for one in values if isinstance(one, dict)]
    if nested and len(nested) == len(values):
        return _schema(nested)
    items = [item for one in values if isinstance(one, list) for item in one]
    if items and types == ["array"]:
        schema["items"] = _values(items)
    return schema


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "number", float: "number", list: "array", dict: "object", type(None): "null"}
    return names[type(value)]


def _language(texts: Sequence[str]) -> str | None:
    """The language that nearly all texts are written in."""
    counted = Counter(written_in(text) for text in texts)
    (language, count) = counted.most_common(1)[0]
    return language if count >= SHARE * len(texts) else None


def written_in(text: str) -> str | None:
    """zh or en by the characters; None for a text with hardly any letter."""
    chinese, latin = len(CHINESE.findall(text)), len(LATIN.findall(text))
    if chinese + latin < 4:
        return None
    return "zh" if 3 * chinese >= latin else "en"  # a Chinese character stands for some three letters


def _affix(texts: Sequence[str], way: int) -> str:
    """What nearly all texts begin with (way 1) or end with (way -1), up to a whole word."""
    turned = [text[::way] for text in texts]
    counted = Counter(text[:AFFIX] for text in turned)
    start, count = counted.most_common(1)[0]
    if count < SHARE * len(texts) or len(start) < AFFIX:
        return ""
    alike = [text for text in turned if text.startswith(start)]
    common = alike[0]
    for text in alike[1:]:
        while not text.startswith(common):
            common = common[:-1]
    if all(len(text) == len(common) for text in alike):
        return ""  # all answers are the same: that is content, not form
    return common[::way]
