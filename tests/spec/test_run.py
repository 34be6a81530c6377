"""One flat list of options, however it is written; all mistakes in one error, in both languages."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from xiaozao.cli.options import gather
from xiaozao.errors import NotFound, UsageError
from xiaozao.spec.fields import OPTIONS, show
from xiaozao.spec.parts import data_files
from xiaozao.spec.run import RunSpec, read_file, read_options
from xiaozao.texts.catalogue import LANGUAGES

REQUIRED = {"model": "m", "data": "d.jsonl"}

# A value for every option that is not its default, as a user writes it, and what it becomes.
VALUES: dict[str, tuple[str, object]] = {
    "model": ("org/name", "org/name"),
    "source": ("modelscope", "modelscope"),
    "revision": ("v1", "v1"),
    "base": ("nf4", "nf4"),
    "stream": ("disk", "disk"),
    "attention": ("eager", "eager"),
    "device": ("cpu", "cpu"),
    "data": ("我的 数据.jsonl", "我的 数据.jsonl"),
    "validation": ("0.1", 0.1),
    "format": ("chatlog", "chatlog"),
    "encoding": ("gb18030", "gb18030"),
    "rows": ("400", 400),
    "stratify": ("intent", "intent"),
    "length": ("512", 512),
    "truncation": ("left", "left"),
    "template": ("chatml", "chatml"),
    "thinking": ("on", "on"),
    "bad_rows": ("drop", "drop"),
    "system": ("You are: a clerk.", "You are: a clerk."),
    "columns": ("time=A,sender=B", "time=A,sender=B"),
    "assistant": ("小王,小李", ("小王", "小李")),
    "dates": ("dmy", "dmy"),
    "gap": ("7.5", 7.5),
    "objective": ("dpo", "dpo"),
    "beta": ("0.2", 0.2),
    "gamma": ("0.5", 0.5),
    "label_smoothing": ("0.1", 0.1),
    "desirable_weight": ("1.5", 1.5),
    "undesirable_weight": ("2", 2.0),
    "method": ("lora", "lora"),
    "adapter": ("dora", "dora"),
    "rank": ("8", 8),
    "alpha": ("1e1", 10.0),
    "targets": (r"*.mlp.*,v_proj,re:.*\.0\.[a-z]+", ("*.mlp.*", "v_proj", r"re:.*\.0\.[a-z]+")),
    "also": ("head,norms", ("head", "norms")),
    "lora_plus": ("16", 16.0),
    "last_blocks": ("2", 2),
    "precision": ("fp32", "fp32"),
    "weights": ("bf16", "bf16"),
    "output": ("./out put", "./out put"),
    "optimizer": ("adafactor", "adafactor"),
    "projection_rank": ("64", 64),
    "switch_every": ("50", 50),
    "fused_update": ("true", True),
    "epochs": ("0.5", 0.5),
    "steps": ("60", 60),
    "batch": ("12", 12),
    "micro_batch": ("3", 3),
    "learning_rate": ("1e-4", 0.0001),
    "schedule": ("constant", "constant"),
    "warmup": ("0.1", 0.1),
    "weight_decay": ("1e-2", 0.01),
    "clip": ("0.5", 0.5),
    "checkpointing": ("block", "block"),
    "budget": ("8GB", 8_000_000_000),
    "seed": ("7", 7),
    "threads": ("2", 2),
    "devices": ("2", 2),
    "eval_every": ("5", 5),
    "save_every": ("6", 6),
    "keep": ("3", 3),
    "patience": ("4", 4),
    "track": ("tensorboard,wandb", ("tensorboard", "wandb")),
    "questions": ("q.jsonl", "q.jsonl"),
    "answer_tokens": ("64", 64),
}


# What an option does not go without.
COMPANIONS: dict[str, dict[str, Any]] = {
    "stratify": {"rows": 9},
    "micro_batch": {"batch": 16},
    "beta": {"objective": "dpo"},
    "gamma": {"objective": "simpo"},
    "label_smoothing": {"objective": "dpo"},
    "desirable_weight": {"objective": "kto"},
    "undesirable_weight": {"objective": "kto"},
    "last_blocks": {"method": "full"},
    "weights": {"method": "full"},
    "projection_rank": {"method": "full", "optimizer": "galore"},
    "switch_every": {"method": "full", "optimizer": "badam"},
}


def test_the_table_of_values_names_every_option() -> None:
    assert set(VALUES) == set(OPTIONS)


@pytest.mark.parametrize("name", list(VALUES))
def test_an_option_is_the_same_as_flag_as_key_value_and_in_a_file(name: str, tmp_path: Path) -> None:
    text, value = VALUES[name]
    companions = COMPANIONS.get(name, {})
    base: dict[str, Any] = {**REQUIRED, **companions}
    by_flag = RunSpec.from_options(base | gather([], {name: text}))
    by_pair = RunSpec.from_options(base | read_options([f"{name}={text}"]))
    file = tmp_path / "run.yaml"
    quoted = f"'{text}'" if ":" in text else text
    file.write_text(f"{name}: {quoted}\n", encoding="utf-8")
    by_file = RunSpec.from_options(base | read_options([str(file)]))
    file.write_text(by_flag.to_yaml(), encoding="utf-8")
    again = RunSpec.from_options(read_file(file))
    assert by_flag == by_pair == by_file == again
    assert by_flag.options()[name] == value


def test_defaults_read_back_from_yaml(tmp_path: Path) -> None:
    spec = RunSpec.from_options(REQUIRED)
    file = tmp_path / "run.yaml"
    file.write_text(spec.to_yaml(), encoding="utf-8")
    assert RunSpec.from_options(read_options([str(file)])) == spec


def test_what_stands_later_wins_and_a_flag_wins_over_all(tmp_path: Path) -> None:
    file = tmp_path / "run.yml"
    file.write_text("rank: 4\nlength: 100\n", encoding="utf-8")
    assert read_options(["rank=2", str(file)])["rank"] == 4
    assert read_options([str(file), "rank=2", "rank=3"])["rank"] == 3
    assert gather([str(file), "rank=2"], {"rank": "9", "length": None}) == {"rank": 9, "length": 100}


def test_a_byte_order_mark_in_a_file_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(b"\xef\xbb\xbfrank: 4\r\n")
    assert read_file(file) == {"rank": 4}


def test_a_spec_cannot_be_changed() -> None:
    method: Any = RunSpec.from_options(REQUIRED).method
    with pytest.raises(ValidationError):
        method.rank = 3


PROBLEMS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("unknown_option_near", {"rnak": 8}, ["rnak", "rank"]),
    ("unknown_option_near", {"learning-rate": 1}, ["learning-rate", "learning_rate"]),
    ("unknown_option", {"zzzzzz": 8}, ["zzzzzz"]),
    ("bad_value", {"rank": "many"}, ["rank", "many"]),
    ("bad_value", {"rank": 0}, ["rank", "0", ">= 1", "<= 1024"]),
    ("bad_value", {"rank": None}, ["rank", "None"]),
    ("bad_value", {"learning_rate": float("inf")}, ["learning_rate", "inf"]),
    ("bad_value", {"warmup": float("nan")}, ["warmup", "nan"]),
    ("bad_value", {"budget": "lots"}, ["budget", "lots", "8GB"]),
    ("bad_value", {"length": 7.5}, ["length", "7.5", ">= 8"]),
    ("bad_value_near", {"schedule": "cosin"}, ["cosin", "cosine | linear | constant", "cosine"]),
    ("bad_value_near", {"source": "model_scope"}, ["model_scope", "modelscope"]),
    ("missing_option", {"model": ...}, ["model"]),
    ("only_lora", {"method": "full", "rank": 8}, ["rank=8"]),
    ("only_lora", {"method": "full", "targets": "q_proj"}, ["targets"]),
    ("only_lora", {"method": "full", "adapter": "dora"}, ["adapter=dora"]),
    ("only_lora", {"method": "full", "also": "head,norms"}, ["also=head,norms"]),
    ("only_lora", {"method": "full", "lora_plus": 16}, ["lora_plus=16"]),
    ("only_full", {"last_blocks": 2}, ["last_blocks=2"]),
    ("bad_value_near", {"also": "heads"}, ["also", "heads", "embeddings | head | norms"]),
    ("target_pattern", {"targets": "re:(q_proj"}, ["re:(q_proj"]),
    ("micro_batch", {"micro_batch": 9, "batch": 8}, ["9", "8"]),
    ("devices_batch", {"devices": 5, "batch": 4}, ["devices=5", "batch=4"]),
    ("devices_micro_batch", {"devices": 2, "micro_batch": 9, "batch": 16}, ["9", "2", "16", "8"]),
    ("devices_optimizer", {"devices": 2, "optimizer": "badam", "method": "full"}, ["badam", "devices=2", "adafactor"]),
    ("fused_accumulates", {"devices": 2, "fused_update": True, "batch": 9, "micro_batch": 4}, ["4", "9", "2"]),
    ("bad_value", {"devices": 0}, ["devices", "0", ">= 1"]),
    ("patience_without_validation", {"patience": 2, "validation": "none"}, ["patience=2"]),
    ("stratify_without_rows", {"stratify": "intent"}, ["intent"]),
    ("only_objective", {"beta": 0.2}, ["beta=0.2", "sft", "dpo, orpo, simpo, kto"]),
    ("only_objective", {"objective": "dpo", "gamma": 0.5}, ["gamma=0.5", "dpo", "simpo"]),
    ("only_objective", {"objective": "simpo", "label_smoothing": 0.1}, ["label_smoothing=0.1", "simpo", "dpo"]),
    ("only_objective", {"objective": "dpo", "desirable_weight": 2.0}, ["desirable_weight=2", "kto"]),
    ("pretrain_truncation", {"objective": "pretrain", "truncation": "left"}, ["truncation=left", "length="]),
    ("bad_value_near", {"objective": "dpi"}, ["dpi", "dpo"]),
    ("paged_update", {"stream": "disk", "method": "full", "fused_update": False}, ["stream=disk", "fused_update=true"]),
    ("paged_optimizer", {"stream": "disk", "method": "full", "optimizer": "galore"}, ["optimizer=galore", "adamw8bit"]),
    ("paged_last_blocks", {"stream": "disk", "method": "full", "last_blocks": 2}, ["last_blocks=2"]),
    ("stream_devices", {"stream": "disk", "devices": 2}, ["stream=disk", "devices=2"]),
    ("stream_pissa", {"stream": "disk", "adapter": "pissa"}, ["stream=disk", "adapter=pissa"]),
    ("stream_also", {"stream": "disk", "also": "norms,head"}, ["stream=disk", "also=head"]),
    ("steps_epochs", {"steps": 60, "epochs": 2}, ["steps=60", "epochs=2"]),
    ("bad_validation", {"validation": 1.0}, ["validation", "1.0", "5%"]),
    ("bad_validation", {"validation": "100%"}, ["validation", "100%"]),
    ("bad_validation", {"validation": -1}, ["validation", "-1"]),
    ("peer_is", {"lora_r": 8}, ["lora_r", "rank=8"]),
    ("validation_is_data", {"validation": "d.jsonl"}, ["d.jsonl"]),
]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("key", "change", "words"), PROBLEMS, ids=[f"{n}-{p[0]}" for n, p in enumerate(PROBLEMS)])
def test_a_problem_names_the_option_the_value_and_what_is_allowed(
    key: str, change: dict[str, Any], words: list[str], language: Any
) -> None:
    options = {name: value for name, value in {**REQUIRED, **change}.items() if value is not ...}
    with pytest.raises(UsageError) as caught:
        RunSpec.from_options(options)
    assert [problem.key for problem in caught.value.problems] == [key]
    text = caught.value.problems[0].text(language)
    assert all(word in text for word in words), text
    assert "1" in caught.value.what(language)
    assert caught.value.fix(language)
    assert caught.value.exit_code == 2


def test_all_problems_come_in_one_error() -> None:
    with pytest.raises(UsageError) as caught:
        RunSpec.from_options({"data": "d", "rank": "x", "epochs": 0, "foo": 1, "sed": 2})
    assert len(caught.value.problems) == 5
    assert "5" in caught.value.what()


def test_what_is_neither_file_nor_pair_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        read_options(["whatever"])
    assert caught.value.key == "argument"
    assert "whatever" in str(caught.value)


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as missing:
        read_options([str(tmp_path / "none.yaml")])
    assert missing.value.exit_code == 8
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError) as unreadable:
        read_file(bad)
    assert unreadable.value.key == "config_unreadable"
    assert "bad.yaml" in unreadable.value.what("zh-CN")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("8GB", 8 * 10**9),
        ("8 GiB", 8 * 2**30),
        ("8e9", 8 * 10**9),
        ("512MB", 512 * 10**6),
        ("1.5G", 15 * 10**8),
        (4096, 4096),
    ],
)
def test_sizes_are_bytes(text: object, count: int) -> None:
    assert RunSpec.from_options({**REQUIRED, "budget": text}).train.budget == count


def test_a_default_is_shown_as_a_user_would_write_it() -> None:
    assert [show(value) for value in (None, ("a", "b"), 0.05)] == ["null", "a,b", "0.05"]


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("validation=10%", "validation", 0.1),
        ("validation=１０％", "validation", 0.1),
        ("validation=0.5%", "validation", 0.005),
        ("validation=0", "validation", "none"),
        ("validation=0%", "validation", "none"),
        ("validation=false", "validation", "none"),
        ("validation=1", "validation", 1),
        ("validation=50", "validation", 50),
        ("validation=.1", "validation", 0.1),
        ("validation=v.jsonl", "validation", "v.jsonl"),
        ("rank＝８", "rank", 8),
        ("budget=８ＧＢ", "budget", 8_000_000_000),
        ("learning_rate=１ｅ－４", "learning_rate", 1e-4),
        ("assistant=甲，乙", "assistant", ("甲", "乙")),
        ("columns=time：日期，text＝内容", "columns", "time=日期,text=内容"),
        ("system=您好，我是８号：小灶", "system", "您好，我是８号：小灶"),
        ("epochs=3.0", "epochs", 3),
    ],
)
def test_values_are_read_as_people_write_them(word: str, name: str, value: object) -> None:
    for options in (read_options([word]), gather([], {name: word.replace("＝", "=", 1).partition("=")[2]})):
        spec = RunSpec.from_options(REQUIRED | options)
        assert spec.options()[name] == value
        assert type(spec.options()[name]) is type(value)
        assert RunSpec.from_options(spec.options()) == spec


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("a.jsonl", ("a.jsonl",)),
        ("a,b.jsonl", ("a,b.jsonl",)),
        ("a.jsonl,b.csv", ("a.jsonl", "b.csv")),
        ("甲.jsonl，乙.xlsx#表2, c.txt", ("甲.jsonl", "乙.xlsx#表2", "c.txt")),
    ],
)
def test_a_comma_parts_files_only_where_each_part_is_one(text: str, files: tuple[str, ...]) -> None:
    assert data_files(text) == files
