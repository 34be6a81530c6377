"""The catalogue's facts hold together, and the rules of the suggestion do what they say."""

import json
from typing import Any, get_args

import pytest

from xiaozao.plan import modelcatalogue as module
from xiaozao.plan.modelcatalogue import Business, Entry, Thinking, catalogue
from xiaozao.plan.suggestions import JOBS, Need, Suggestion, size_class, suggest, verdict
from xiaozao.plan.workload import ModelShape

GB = 10**9
NEED = Need("support", "zh", 8 * GB, "cuda", "bf16", 2048)
NAMES = [entry.name for entry in catalogue()]


def need(**changes: Any) -> Need:
    return Need(**{**vars(NEED), **changes})


def entry(name: str) -> Entry:
    return next(one for one in catalogue() if one.name == name)


def best(found: list[Suggestion]) -> str | None:
    return next((one.entry.name for one in found if one.usable), None)


@pytest.mark.parametrize("name", NAMES)
def test_the_config_gives_the_published_number_of_parameters(name: str) -> None:
    one = entry(name)
    counted = ModelShape.from_config(one.config).parameters
    assert abs(counted / one.parameters - 1) < 0.03, (counted, one.parameters)


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_has_its_form(name: str) -> None:
    one = entry(name)
    assert name.count("/") == 1 and NAMES.count(name) == 1
    assert one.modelscope is None or one.modelscope.count("/") == 1
    assert one.business in get_args(Business) and one.thinking in get_args(Thinking)
    assert one.language_count >= len(set(one.languages)) == len(one.languages) > 0
    assert one.context is None or one.context >= 4096
    assert "2023-01" <= one.released <= "2026-12" and len(one.released) == 7
    assert set(one.good_at) <= set(JOBS)
    assert one.source and one.license


def test_licences_that_bind_are_known_as_such() -> None:
    for one in catalogue():
        bound = {"Llama": "under_700m_users", "Gemma": "terms", "Qwen Research": "research_only"}
        expected = next((business for start, business in bound.items() if one.license.startswith(start)), "yes")
        assert one.business == expected, one.name
    assert entry("Qwen/Qwen2.5-3B-Instruct").business == "research_only"


def test_a_row_with_a_wrong_key_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    row = json.loads(module.FILE.read_text(encoding="utf-8"))[0]
    (tmp_path / "one.json").write_text(json.dumps([{**row, "licence": "?"}]), encoding="utf-8")
    monkeypatch.setattr(module, "FILE", tmp_path / "one.json")
    with pytest.raises(ValueError, match="keys"):
        catalogue.__wrapped__()


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("language", ["zh", "en", "de"])
def test_only_models_of_the_language_that_think_as_the_job_wants(job: str, language: str) -> None:
    found = suggest(need(job=job, language=language), catalogue())
    assert found
    assert all(language in one.entry.languages for one in found)
    assert all(one.entry.thinking in JOBS[job].thinking for one in found)


def test_a_model_that_always_thinks_is_for_reasoning_alone() -> None:
    always = {one.name for one in catalogue() if one.thinking == "always"}
    assert always
    for job in JOBS:
        shown = {one.entry.name for one in suggest(need(job=job, language="en"), catalogue())}
        assert bool(always & shown) == (job == "reason")


def test_what_only_research_may_use_is_never_recommended() -> None:
    only = [entry("Qwen/Qwen2.5-3B-Instruct")]
    found = suggest(need(budget=80 * GB), only)
    assert found[0].verdict.state == "fits"
    assert best(found) is None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("budget", [3, 8, 24, 80])
def test_the_recommended_fits_with_room_to_spare(device: str, budget: int) -> None:
    for job in JOBS:
        asked = need(job=job, device=device, precision="fp32" if device == "cpu" else "bf16", budget=budget * GB)
        found = suggest(asked, catalogue())
        first = next(one for one in found if one.usable)
        assert first.verdict.state in ("fits", "nf4")
        assert first.verdict.plan.peak_bytes <= 0.85 * budget * GB


def test_more_memory_never_recommends_a_smaller_model_up_to_what_the_job_needs() -> None:
    for job in JOBS:
        sizes = []
        for budget in (2, 3, 4, 6, 8, 12, 16, 24, 48, 80):
            name = best(suggest(need(job=job, budget=budget * GB), catalogue()))
            sizes.append(size_class(entry(name).parameters) if name else -1)
        assert sizes == sorted(sizes)
        assert sizes[-1] == size_class(JOBS[job].enough)


@pytest.mark.parametrize("budget", [4, 8, 12, 24])
def test_none_of_the_language_that_fits_is_of_a_larger_size(budget: int) -> None:
    for job, language in (("support", "zh"), ("write", "en"), ("reason", "zh"), ("classify", "en")):
        found = [
            one for one in suggest(need(job=job, language=language, budget=budget * GB), catalogue()) if one.usable
        ]
        first, *others = [one for one in found if one.verdict.state != "tight" and language in one.entry.own]
        assert found[0] is first
        most = max(size_class(one.entry.parameters) for one in others)
        enough = size_class(JOBS[job].enough)
        assert size_class(first.entry.parameters) >= min(most, enough)


def test_a_model_of_the_makers_own_language_comes_before_a_larger_one_that_only_names_it() -> None:
    ours, larger = entry("Qwen/Qwen3-4B-Instruct-2507"), entry("ibm-granite/granite-3.3-8b-instruct")
    assert best(suggest(need(budget=24 * GB), [larger, ours])) == ours.name
    assert best(suggest(need(budget=24 * GB, language="en"), [larger, ours])) == larger.name


def test_a_model_made_for_code_is_for_code() -> None:
    both = [entry("Qwen/Qwen2.5-7B-Instruct"), entry("Qwen/Qwen2.5-Coder-7B-Instruct")]
    assert best(suggest(need(job="code", budget=24 * GB), both)) == both[1].name
    assert best(suggest(need(job="support", budget=24 * GB), both)) == both[0].name


def test_the_least_harm_is_tried_first() -> None:
    config = entry("Qwen/Qwen3-4B").config
    states = []
    for budget in range(2, 40):
        one = verdict(config, need(budget=budget * GB))
        states.append((one.state, one.base, one.checkpointing))
    order = [
        ("too_big", "nf4", "block"), ("tight", "nf4", "block"), ("nf4", "nf4", "block"), ("nf4", "nf4", "none"),
        ("fits", "none", "block"), ("fits", "none", "none"),
    ]  # fmt: skip
    assert list(dict.fromkeys(states)) == [one for one in order if one in states]
    assert states[0][0] == "too_big" and states[-1] == ("fits", "none", "none")


def test_nothing_fits_is_ordered_by_what_is_needed() -> None:
    found = suggest(need(budget=GB // 2), catalogue())
    assert best(found) is None
    needs = [one.verdict.plan.peak_bytes for one in found if one.entry.business == "yes" and "zh" in one.entry.own]
    assert needs == sorted(needs) and needs[0] > GB // 2


def test_hours_are_those_of_the_function_and_none_without() -> None:
    two = catalogue()[:2]
    assert [one.hours for one in suggest(NEED, two)] == [None, None]
    found = suggest(
        NEED, two, lambda one, there: one.parameters / there.plan.peak_bytes if "0.5B" in one.name else None
    )
    hours = {one.entry.name: one.hours for one in found}
    assert hours["Qwen/Qwen2.5-1.5B-Instruct"] is None and hours["Qwen/Qwen2.5-0.5B-Instruct"]
