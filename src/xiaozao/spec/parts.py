"""The parts of a run. Every option of Xiaozao is one field here and nowhere else.

A field's help is the text `option.<name>` of the catalogues; its unit, choices, bounds and default stand in the field.
Flags, YAML keys, `key=value`, the JSON schema and docs/options.md are all made from these fields (spec/fields.py).
Field names are unique over all parts, because to a user they are one flat list.
"""

import codecs
import re
import unicodedata
from enum import Enum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

ATTENTION = {"cpu": "batched", "cuda": "sdpa"}  # what `attention=auto` means: the fastest on each
COMMA, EQUALS = re.compile("[,，]"), re.compile("[=＝：]")
DATA_FILE = re.compile(r"\.(jsonl?|ndjson|csv|tsv|parquet|xlsx|txt)(#.*)?$", re.IGNORECASE)
# What `auto` means of these where memory is no concern: the fastest, and exact. plan/ladder.py goes on from here.
FIRST = {"checkpointing": "none", "optimizer": "adamw", "base": "none", "stream": "none"}
WIDER = {
    "utf-8-sig": "utf-8", "gbk": "gb18030", "gb2312": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932",
    "tis-620": "cp874", "big5": "big5hkscs", "ascii": "utf-8",
}  # fmt: skip
EPOCHS = 3  # where neither epochs nor steps are named
TEMPLATES = ("auto", "plain", "chatml", "llama3")  # names; a FILE.jinja may be given as well
TEMPLATE_FILES = (".jinja", ".jinja2", ".j2")
SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_bytes(value: object) -> object:
    """`8GB`, `8 GiB`, `8e9` -> bytes; anything else is left for the type check. 1 GB = 10^9 bytes."""
    if not isinstance(value, str):
        return value
    value = unicodedata.normalize("NFKC", value)
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?I?)B?\s*", value, re.IGNORECASE)
    return int(float(match[1]) * SIZES[match[2].upper()]) if match else value


def split_names(value: object) -> object:
    """`a,b` or `a，b` -> (a, b): how a list of names is written on a command line."""
    return tuple(name.strip() for name in COMMA.split(value) if name.strip()) if isinstance(value, str) else value


def data_files(text: str) -> tuple[str, ...]:
    """`a.jsonl,b.csv` -> both; a text is one file unless each part of it ends like a file of data."""
    names = tuple(name.strip() for name in COMMA.split(text))
    return names if len(names) > 1 and all(DATA_FILE.search(name) for name in names) else (text,)


def parse_validation(value: object) -> object:
    """`10%` -> 0.1, 0 -> none; a whole number stays one, of rows. Raises ValueError for the whole of the data."""
    if isinstance(value, str):
        plain = unicodedata.normalize("NFKC", value).strip()
        if plain.lower() in ("no", "off"):
            return "none"
        share = re.fullmatch(r"(-?[0-9.]+)\s*%", plain)
        if not share and not re.fullmatch(r"-?[0-9]*\.?[0-9]+", plain):
            return value
        value = float(share[1]) / 100 if share else float(plain) if "." in plain else int(plain)
        value = value if not share or value < 1 else 1.0
    if value is True or (isinstance(value, float) and value >= 1):
        raise ValueError
    return "none" if value == 0 else value


def parse_encoding(value: object) -> object:
    """`GBK` -> gb18030, `Shift-JIS` -> cp932: any encoding that Python knows, in its widest form.

    Raises ValueError for what is none, or one in which a line of ASCII is no line.
    """
    if not isinstance(value, str):
        return value
    name = value.strip().lower()
    if name == "auto":
        return name
    try:
        known = codecs.lookup(name).name
        plain = "a\n1{".encode(known)
    except (LookupError, UnicodeError):
        raise ValueError from None
    if known.startswith(("utf-16", "utf-32")):
        return known
    if plain != b"a\n1{" or known in ("raw-unicode-escape", "unicode-escape", "idna", "utf-7"):
        raise ValueError
    return WIDER.get(known, known)


def parse_columns(value: object) -> object:
    """`time＝A，sender：B` -> `time=A,sender=B`."""
    if not isinstance(value, str):
        return value
    return ",".join(EQUALS.sub("=", pair, count=1) for pair in COMMA.split(value))


def whole(value: float) -> float:
    """3.0 -> 3, so that a number of epochs reads as it was written."""
    return int(value) if value == int(value) else value


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Names = Annotated[tuple[str, ...], BeforeValidator(split_names)]


class Mark(Enum):
    """A property of an option: what it does not change, or what may change it. Stored in the metadata of its field."""

    NO_NUMBER = "no number of the run depends on it: it may differ when a run is resumed"
    NO_SHAPE = "no tensor's shape depends on it: runs that differ in it alone take the same memory"
    BY_DEVICES = "it follows the number of devices, with which a run may be resumed"


NO_NUMBER, NO_SHAPE, BY_DEVICES = Mark.NO_NUMBER, Mark.NO_SHAPE, Mark.BY_DEVICES


def unit(name: str) -> JsonDict:
    """The unit a number is given in, shown in help, schema and form."""
    return {"unit": name}


class Part(BaseModel):
    """The base class of the parts: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSpec(Part):
    """Options of the model: its name, source and revision."""

    model: Annotated[str, NO_NUMBER] = Field(min_length=1)
    source: Annotated[Literal["auto", "hf", "modelscope", "local"], NO_NUMBER] = "auto"
    revision: str | None = None
    base: Literal["auto", "none", "int8", "nf4"] = "auto"
    stream: Literal["auto", "none", "disk"] = "auto"
    attention: Literal["auto", "batched", "sdpa", "eager"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class DataSpec(Part):
    """Options of the data: files, formats, lengths, validation."""

    data: Annotated[str, NO_NUMBER] = Field(min_length=1)
    validation: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | Annotated[int, Field(ge=1)] | str,
        BeforeValidator(parse_validation),
        NO_NUMBER,
    ] = 0.05
    format: Literal[
        "auto", "messages", "sharegpt", "alpaca", "prompt", "text", "classification", "chatlog", "preference", "kto"
    ] = "auto"
    encoding: Annotated[str, BeforeValidator(parse_encoding)] = Field(
        "auto",
        json_schema_extra=unit("auto, utf-8, gb18030, big5, cp949, cp1252 or another that Python knows"),
    )
    rows: int | None = Field(None, ge=1, json_schema_extra=unit("rows"))
    stratify: str | None = None
    length: int = Field(2048, ge=8, json_schema_extra=unit("tokens"))
    truncation: Literal["drop", "error", "left", "right"] = "drop"
    template: str = Field("auto", min_length=1)
    thinking: Literal["auto", "on", "off"] = "auto"
    bad_rows: Literal["stop", "drop"] = "stop"
    system: str | None = None
    columns: Annotated[str | None, BeforeValidator(parse_columns)] = None
    assistant: Names = ()
    dates: Literal["auto", "dmy", "mdy", "ymd"] = "auto"
    gap: float = Field(30.0, gt=0, json_schema_extra=unit("minutes"))


class MethodSpec(Part):
    """Options of the method: trainable parameters, objective, precision."""

    objective: Literal["sft", "pretrain", "dpo", "orpo", "simpo", "kto"] = "sft"
    beta: Annotated[float | None, NO_SHAPE] = Field(None, gt=0)
    gamma: Annotated[float | None, NO_SHAPE] = Field(None, ge=0)
    label_smoothing: Annotated[float, NO_SHAPE] = Field(0.0, ge=0, lt=0.5)
    desirable_weight: Annotated[float, NO_SHAPE] = Field(1.0, gt=0)
    undesirable_weight: Annotated[float, NO_SHAPE] = Field(1.0, gt=0)
    method: Literal["lora", "full"] = "lora"
    adapter: Literal["lora", "rslora", "dora", "pissa"] = "lora"
    rank: int = Field(16, ge=1, le=1024)
    alpha: float | None = Field(None, gt=0)
    targets: Names = ("all-linear",)
    also: Annotated[tuple[Literal["embeddings", "head", "norms"], ...], BeforeValidator(split_names)] = ()
    lora_plus: Annotated[float | None, NO_SHAPE] = Field(
        None, ge=1, le=1000, json_schema_extra=unit("times the learning rate of A")
    )
    last_blocks: int | None = Field(None, ge=1, json_schema_extra=unit("blocks"))
    precision: Annotated[Literal["auto", "bf16", "fp16", "fp32"], NO_SHAPE] = "auto"
    weights: Literal["fp32", "bf16"] = "fp32"


class TrainSpec(Part):
    """Options of training: batches, optimizer, schedule, checkpoints."""

    output: Annotated[str | None, NO_NUMBER] = None
    optimizer: Literal["auto", "adamw", "adamw8bit", "adafactor", "apollo-mini", "galore", "badam"] = "auto"
    projection_rank: int = Field(128, ge=1, le=4096)
    switch_every: int | None = Field(None, ge=1, json_schema_extra=unit("steps"))
    fused_update: bool = False
    epochs: Annotated[float, AfterValidator(whole)] | None = Field(None, gt=0, le=1_000_000)
    steps: int | None = Field(None, ge=1, le=100_000_000, json_schema_extra=unit("steps"))
    batch: int = Field(16, ge=1, json_schema_extra=unit("samples"))
    micro_batch: Annotated[int | None, BY_DEVICES] = Field(None, ge=1, json_schema_extra=unit("samples"))
    learning_rate: float | None = Field(None, gt=0, le=1)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(0.03, ge=0, json_schema_extra=unit("share of all steps; steps when 1 or more"))
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0)
    checkpointing: Literal["auto", "none", "selective", "block", "offload"] = "auto"
    budget: Annotated[Bytes | None, NO_NUMBER] = Field(None, ge=1, json_schema_extra=unit("bytes, or 8GB"))
    seed: int = Field(0, ge=0, lt=2**31)
    threads: Annotated[int | None, BY_DEVICES] = Field(None, ge=1)
    devices: Annotated[int, BY_DEVICES] = Field(1, ge=1, le=4096, json_schema_extra=unit("processes"))
    eval_every: int | None = Field(None, ge=1, json_schema_extra=unit("steps"))
    save_every: int | None = Field(None, ge=1, json_schema_extra=unit("steps"))
    keep: Annotated[int, NO_NUMBER] = Field(2, ge=1, json_schema_extra=unit("checkpoints"))
    patience: int | None = Field(None, ge=1, json_schema_extra=unit("validations"))
    track: Annotated[
        tuple[Literal["tensorboard", "wandb", "mlflow", "swanlab", "trackio"], ...],
        BeforeValidator(split_names),
        NO_NUMBER,
    ] = ()


class EvalSpec(Part):
    """Options of the evaluation: questions that are answered before and after training."""

    questions: Annotated[str | None, NO_NUMBER] = None
    answer_tokens: Annotated[int, NO_NUMBER] = Field(128, ge=1, json_schema_extra=unit("tokens"))
