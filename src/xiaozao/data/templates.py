"""Chat templates: Jinja programs that come with a model and are not trusted.

They run in Jinja's immutable sandbox, which hides Python's internals from them. It does not stop them from filling the
memory or running forever, so loops, calls and the length of strings are charged to a budget. A template gives the
same text here as in transformers.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from xiaozao.data.verbatim import Verbatim, is_verbatim
from xiaozao.errors import DataError, UnsupportedModel

STEPS = 200_000  # rounds of loops and calls in one rendering
TEXT = 10_000_000  # characters; the longest string a template may make beyond what went in
SOURCE = 500_000  # characters of a template; the longest known ones have 20,000
TODAY = datetime(2025, 1, 1)  # a template that asks for the date gets this one, or no sample would be reproducible
FILTERS = """abs capitalize count d default dictsort e escape first float groupby indent int items last length list
lower map max min reject rejectattr replace reverse round safe select selectattr sort string sum title trim unique
upper""".split()
FAILURES = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError,
            MemoryError)  # fmt: skip

Message = Mapping[str, Any]


class ChatTemplate:
    """A compiled template. `tokens` are the names it may use: bos_token, eos_token ...

    source: its text. variables: the names that it reads from outside. is_verbatim: whether it writes contents as they
    stand and does nothing else with them (verbatim.py).
    """

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.source = source
        self._tokens = dict(tokens)
        if len(source) > SOURCE:
            raise UnsupportedModel("template_too_long", length=len(source), limit=SOURCE)
        try:
            tree = _ENVIRONMENT.parse(source)
            self.is_verbatim = is_verbatim(tree)  # before jinja computes what is constant
            self.variables = frozenset(meta.find_undeclared_variables(tree))
            self._template = _ENVIRONMENT.from_string(_guarded(tree))
        except FAILURES as error:
            raise UnsupportedModel("template_syntax", detail=_reason(error)) from None
        self._verbatim = Verbatim(self.rendered) if self.is_verbatim else None

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        tools: Sequence[Message] | None = None,
        switches: Mapping[str, bool] | None = None,
        size: int | None = None,
    ) -> str:
        """The text of a conversation. Raises DataError if the template refuses it or fails.

        `tools` are described to the model where the template has a place for them; `switches` are variables that only
        some templates read, such as `enable_thinking`. `size`: the characters of messages and tools, if known.
        """
        if self._verbatim is not None and tools is None:
            filled = self._verbatim.fill(messages, add_generation_prompt, switches)
            if filled is not None and len(filled) <= TEXT:
                return filled
        return self.rendered(messages, add_generation_prompt, switches, tools, size)

    def rendered(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        switches: Mapping[str, bool] | None,
        tools: Sequence[Message] | None = None,
        size: int | None = None,
    ) -> str:
        """The text as the template's program writes it."""
        _budget.start(TEXT + 20 * (length_of(messages) + length_of(tools) if size is None else size))
        try:
            pieces = self._template.generate(
                messages=messages, add_generation_prompt=add_generation_prompt, tools=tools,
                documents=None, **(switches or {}), **self._tokens,
            )  # fmt: skip
            return "".join(_budget.counted(pieces))
        except FAILURES as error:
            raise DataError("template_refused", detail=_reason(error)) from None


def length_of(value: Any) -> int:
    """The characters of all texts within a value."""
    if isinstance(value, str):
        return len(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(length_of, inner))


class _Budget(threading.local):
    """The remaining budget of one rendering, per thread."""

    steps = STEPS
    text = TEXT

    def start(self, text: int) -> None:
        self.steps, self.text = STEPS, text

    def step(self, count: int = 1) -> None:
        self.steps -= count
        if self.steps < 0:
            raise SecurityError(f"more than {STEPS} steps")

    def allow(self, length: int) -> None:
        if length > self.text:
            raise SecurityError(f"a text of {length} characters")

    def counted(self, pieces: Iterable[str]) -> Iterable[str]:
        length = 0
        for piece in pieces:
            length += len(piece)
            self.allow(length)
            yield piece


_budget = _Budget()


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, with arithmetic on texts and calls charged to the budget."""

    intercepted_binops = frozenset(("+", "*", "%", "**"))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """As in Jinja, with a short way for the fields of messages, which are most of what a template asks for."""
        if type(obj) is dict and attribute in obj and not hasattr(dict, attribute):
            return obj[attribute]
        return super().getattr(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and type(left) is str and type(right) is str:
            _budget.allow(len(left) + len(right))
            return left + right
        if operator == "*":
            if isinstance(left, list | tuple) or isinstance(right, list | tuple):
                raise SecurityError("a repeated list")
            _budget.allow(_size(left) * _count(right) + _size(right) * _count(left))
        if operator == "+":
            _budget.allow(_size(left) + _size(right))
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        if operator == "**" and (abs(left) > 10_000 or abs(right) > 100):
            raise SecurityError("a huge power")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_format(str(value.__self__))
        return wrapped

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        _budget.step()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            _check_text_call(owner, __obj.__name__, args)
        return super().call(__context, __obj, *args, **kwargs)


def _check_format(text: str) -> None:
    """Refuse format widths of 10,000 or more, and widths taken from a value: they could make a text of any length."""
    if re.search(r"[0-9]{5}|%[^%]*\*|:[^}]*\{", text):
        raise SecurityError("a wide format")


def _check_text_call(text: str, name: str, args: Sequence[Any]) -> None:
    if name in ("translate", "expandtabs"):
        raise SecurityError(f"str.{name}")
    if name in ("center", "ljust", "rjust", "zfill"):
        _budget.allow(max(_count(one) for one in args))
    elif name in ("replace", "join"):
        _budget.allow((len(text) + 1) * (max((_size(one) for one in args), default=0) + 1) // 100)


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _count(value: Any) -> int:
    return max(value, 0) if isinstance(value, int) else 0


class _Guard(NodeTransformer):
    """Rewrites a template so that every loop and every `~` goes through the budget."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.iter, nodes.Expr):
            node.iter = _call("_zao_each", [node.iter])
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("_zao_joined", node.nodes)


def _guarded(tree: nodes.Template) -> nodes.Template:
    changed = _Guard().visit(tree)
    if not isinstance(changed, nodes.Template):
        raise TypeError("a template that is no template")
    changed.set_environment(_ENVIRONMENT)
    changed.set_lineno(1)
    return changed


def _call(name: str, arguments: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.Name(name, "load"), arguments, [], None, None)


def _each(values: Any) -> Any:
    if not hasattr(values, "__len__"):
        values = list(values)
    _budget.step(len(values))
    return values


def _joined(*values: Any) -> str:
    texts = [str(value) for value in values]
    _budget.allow(sum(len(text) for text in texts))
    return "".join(texts)


def _join(values: Iterable[object], separator: str = "", attribute: str | None = None) -> str:
    parts = [_ENVIRONMENT.getitem(value, attribute) if attribute else value for value in _each(values)]
    texts = [str(part) for part in parts]
    _budget.allow(sum(len(text) + len(separator) for text in texts))
    return separator.join(texts)


def _replace(text: object, old: str, new: str, count: int = -1) -> str:
    _check_text_call(str(text), "replace", (new,))
    return str(text).replace(old, new, count)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    lead = " " * min(width, 100) if isinstance(width, int) else width
    lines = text.split("\n")
    mark = [first or index > 0 for index in range(len(lines))]
    _budget.allow(len(text) + len(lead) * len(lines))
    return "\n".join(lead + line if put and (line or blank) else line for line, put in zip(lines, mark, strict=True))


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None,
            separators: tuple[str, str] | None = None, sort_keys: bool = False) -> str:  # fmt: skip
    """As transformers has it: Jinja's own would escape < and > for HTML."""
    width = None if indent is None else min(indent, 16)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=width, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(str(message)[:500])


def _strftime_now(format: str) -> str:
    return TODAY.strftime(format[:100])


class _Generation(Extension):
    """`{% generation %}` marks what the assistant says. Our loss mask does not need it; its body is rendered."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> _Sandbox:
    sandbox = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    known: dict[str, Callable[..., Any]] = {name: sandbox.filters[name] for name in FILTERS}
    sandbox.filters = {**known, "tojson": _tojson, "join": _join, "replace": _replace, "indent": _indent}
    for name in ("lipsum", "cycler", "joiner"):
        del sandbox.globals[name]
    sandbox.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    sandbox.globals.update(_zao_each=_each, _zao_joined=_joined)
    return sandbox


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


_ENVIRONMENT = _environment()
