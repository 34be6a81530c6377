"""Templates that write contents as they stand are filled in, and give what rendering gives; no other template is."""

import random

import pytest

from tests.data.folders import CHATML, LLAMA, STRICT, THINKING
from xiaozao.data.templates import ChatTemplate
from xiaozao.errors import DataError

SMOL = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TWICE = "{{ messages[0]['content'] }}|{% for m in messages %}{{ loop.index ~ m.content ~ m.role }}{% endfor %}"
ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('order') }}"
    "{% endif %}{{ m.content }}{% endfor %}"
)
FILLED = {"chatml": CHATML, "smol": SMOL, "twice": TWICE, "alternate": ALTERNATE}
BODIES = {  # of a loop over messages
    "trimmed": "{{ m.content | trim }}",
    "looked into": "{% if 'x' in m.content %}x{% endif %}{{ m.content }}",
    "split": "{{ m.content.split('x')[0] }}",
    "sliced": "{{ m.content[:2] }}",
    "on a condition": "{{ m.content if loop.first }}",
    "asked for by a method": "{{ m.get('content') }}",
    "all values": "{{ m.values() | list }}",
    "the message": "{{ m }}",
    "by a name": "{{ m[m.role] }}",
    "counted": "{{ m.content | length }}",
    "repeated": "{{ m.content * 2 }}",
    "set": "{% set c = m.content %}{{ c }}",
    "the one before": "{{ loop.previtem.content }}",
    "the one before, hidden": "{{ [loop][0].previtem }}",
    "escaped": "{{ m.content + ('<'|safe) }}",
    "the last": "{{ messages[-1].content | upper }}",
    "all messages": "{{ messages | tojson }}",
    "tested": "{% if m.content is string %}{{ m.content }}{% endif %}",
    "a macro": "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(m.content) }}",
    "a filter block": "{% filter upper %}{{ m.content }}{% endfilter %}",
}
RENDERED = {
    "llama": LLAMA, "strict": STRICT, "thinking": THINKING,
    **{name: f"{{% for m in messages %}}{body}{{% endfor %}}" for name, body in BODIES.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", FILLED)
def test_a_template_that_is_filled_in_gives_what_rendering_gives(name: str) -> None:
    template, draw = ChatTemplate(FILLED[name], {"bos_token": "<s>"}), random.Random(2)
    assert template.is_verbatim
    texts = ["hi", "", " x ", "<b>&amp;", "{{ 1 }}", "\ue0040\ue005", "您好", "a" * 500]
    for _ in range(400):
        roles = draw.choices(["user", "assistant", "system"], k=draw.randint(1, 5))
        messages = [{"role": role, "content": draw.choice(texts)} for role in roles]
        asked = draw.random() < 0.5
        try:
            expected = template.rendered(messages, asked, None)
        except DataError as error:
            with pytest.raises(DataError) as raised:
                template.render(messages, asked)
            assert (raised.value.key, raised.value.params) == (error.key, error.params)
            continue
        assert template.render(messages, asked) == expected


@pytest.mark.parametrize("name", RENDERED)
def test_a_template_that_does_more_with_contents_is_rendered(name: str) -> None:
    assert not ChatTemplate(RENDERED[name], {"bos_token": "<s>"}).is_verbatim


def test_messages_with_more_than_a_content_are_rendered() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.name }}:{{ m.content }}{% endfor %}", {})
    assert template.is_verbatim
    assert template.render([{"role": "tool", "name": "f", "content": "1"}], False) == "f:1"
    assert template.render([{"role": "tool", "content": "1"}], False) == ":1"
