"""Chat templates in their sandbox: the same text as transformers renders, and no way out."""

import json
from typing import Any

import pytest

from xiaozao.data.namedtemplates import TEMPLATES as named
from xiaozao.data.templates import ChatTemplate
from xiaozao.errors import DataError, UnsupportedModel
from xiaozao.spec.parts import TEMPLATES

HI = [{"role": "user", "content": "hi <b> 您"}]


def render(source: str, **tokens: str) -> str:
    return ChatTemplate(source, tokens).render(HI, add_generation_prompt=True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ messages | tojson }}", json.dumps(HI, ensure_ascii=False)),
        ("{% for m in messages %}\n  {% if loop.last %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}", "hi <b> 您\n"),
        ("{% for i in range(5) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}!", "hi <b> 您!"),
        ("{{ bos_token ~ 'x' ~ 1 }}", "<s>x1"),
        ("{{ strftime_now('%Y') }}", "2025"),
        ("{{ tools is none and documents is none }}", "True"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "1"),
        ("{{ ['a', 'b'] | join(', ') }}{{ 'a\nb' | indent(2) }}", "a, ba\n  b"),
        ("{{ messages | map(attribute='role') | list | length }}", "1"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join }}", "hi <b> 您"),
        ("{% for k, v in messages[0].items() %}{{ k }}{% endfor %}", "rolecontent"),
        ("{{ messages[0].content.replace('hi', 'ho').upper()[:2] }}{{ undefined_name }}", "HO"),
        ("{{ '{} {:.1f}'.format('a', 1.26) }}{{ '%s!' % 'b' }}", "a 1.3b!"),
        ("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f('a') }}{% if add_generation_prompt %}?{% endif %}", "[a]?"),
    ],
)
def test_renders_what_templates_are_written_with(source: str, expected: str) -> None:
    assert render(source, bos_token="<s>") == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['__builtins__'] }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append(1) }}",
        "{{ self._TemplateReference__context.environment.globals.__class__.__base__ }}",
        "{{ 'a' | attr('__class__') }}",
        "{{ messages | map('attr', '__class__') | list }}",
        "{% include 'x' %}",
        "{% for i in range(10 ** 5) %}{% for j in range(10 ** 5) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10 ** 9 }}",
        "{{ ('a' * 10 ** 6) | center(10 ** 9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10 ** 9) }}",
        "{{ 'a'.ljust(10 ** 9) }}",
        "{{ [1] * 10 ** 9 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{% set ns = namespace(s='aa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s='aa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
        "{% macro f(n) %}{{ f(n - 1) }}{% endmacro %}{{ f(10) }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
        "{% for i in range(90000) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'"
        " ~ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' }}{% endfor %}",
        "{{ ('a' * 10 ** 6).replace('a', 'b' * 10 ** 6) }}",
        "{{ (['a' * 10 ** 6, 'b'] | join('c' * 10 ** 7)) }}",
        "{{ 1 / 0 }}",
        "{{ messages[9].content.x }}",
        "{{ raise_exception('no thanks') }}",
    ],
)
def test_hostile_or_broken_templates_are_refused(source: str) -> None:
    with pytest.raises((DataError, UnsupportedModel)) as caught:
        render(source)
    assert caught.value.params["detail"]


def test_template_without_end_of_text_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="characters"):
        ChatTemplate("x" * 600_000, {})


def test_budget_is_per_rendering() -> None:
    template = ChatTemplate("{% for i in range(90000) %}{% endfor %}ok", {})
    assert [template.render(HI, add_generation_prompt=False) for _ in range(15)] == ["ok"] * 15


@pytest.mark.parametrize("name", ["tojson", "replace", "join"])
def test_own_filters_stand_in_for_jinjas(name: str) -> None:
    sources: dict[str, tuple[str, Any]] = {
        "tojson": ("{{ {'b': 1, 'a': '<'} | tojson(indent=1) }}", '{\n "b": 1,\n "a": "<"\n}'),
        "replace": ("{{ 'aaa' | replace('a', 'b', 2) }}", "bba"),
        "join": ("{{ messages | join('-', attribute='role') }}", "user"),
    }
    source, expected = sources[name]
    assert render(source) == expected


def test_the_names_of_options_are_those_of_templates() -> None:
    assert set(TEMPLATES) == {"auto", *named}
