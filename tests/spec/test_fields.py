"""What is made from the fields: names, help, the schema and the pages in docs/."""

import json
from pathlib import Path

import pytest
import yaml

from xiaozao.spec.fields import OPTIONS, PARTS, json_schema, marked, nearest, options_page
from xiaozao.spec.parts import BY_DEVICES, NO_NUMBER, NO_SHAPE
from xiaozao.spec.run import RunSpec
from xiaozao.texts.catalogue import LANGUAGES

DOCS = Path(__file__).parents[2] / "docs"


def test_option_names_are_unique_over_all_parts() -> None:
    assert len(OPTIONS) == sum(len(part.model_fields) for part in PARTS.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_option_has_help(language: str) -> None:
    for option in OPTIONS.values():
        assert option.help("zh-CN" if language == "zh-CN" else "en").strip()


def test_the_schema_names_every_option_with_its_bounds() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(OPTIONS)
    assert schema["required"] == ["model", "data"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["rank"]["minimum"] == 1
    assert schema["properties"]["schedule"]["enum"] == ["cosine", "linear", "constant"]


def test_a_spec_written_as_yaml_has_only_names_of_the_schema() -> None:
    spec = RunSpec.from_options({"model": "m", "data": "d"})
    assert set(yaml.safe_load(spec.to_yaml())) == set(json_schema()["properties"])


def test_the_nearest_name_is_offered_only_if_it_is_near() -> None:
    assert nearest("micro-batch", list(OPTIONS)) == "micro_batch"
    assert nearest("Rank", list(OPTIONS)) == "rank"
    assert nearest("qqqq", list(OPTIONS)) == ""


def test_the_pages_in_docs_are_up_to_date() -> None:
    assert (DOCS / "options.md").read_text(encoding="utf-8") == options_page(), "run scripts/make_docs.py"
    schema = json.loads((DOCS / "config.schema.json").read_text(encoding="utf-8"))
    assert schema == json_schema(), "run scripts/make_docs.py"


def test_the_marks_of_options_are_those_that_were_agreed_on() -> None:
    """One mark too many, and a run is resumed with other numbers, or planned with another's memory."""
    assert marked(NO_NUMBER) == {
        "model", "source", "data", "validation", "output", "budget", "keep", "track", "questions", "answer_tokens",
    }  # fmt: skip
    assert marked(NO_SHAPE) == {
        "beta", "gamma", "label_smoothing", "desirable_weight", "undesirable_weight", "lora_plus", "precision",
    }  # fmt: skip
    assert marked(BY_DEVICES) == {"devices", "micro_batch", "threads"}
