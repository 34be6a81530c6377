"""Strict YAML: numbers and booleans as in YAML 1.2, no duplicate keys, no tags, no aliases.

PyYAML follows YAML 1.1, where `1e-4` is a string, `no` is False and `0o10` a string. Here `1e-4` is a number, `no` is
the word no, and anything that could build an object or blow up in memory is refused.
"""

import re
import unicodedata
from collections.abc import Hashable
from typing import Any

import yaml

from xiaozao.errors import UsageError

NUMBER = re.compile(r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?%?")
LIMIT = 1_000_000  # characters; a configuration is a page, not a book
DEPTH = 20

SCALARS = {
    "tag:yaml.org,2002:null": (re.compile(r"^(?:~|null|Null|NULL|)$"), "~nN"),
    "tag:yaml.org,2002:bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    "tag:yaml.org,2002:int": (re.compile(r"^[-+]?[0-9]+$"), "-+0123456789"),
    "tag:yaml.org,2002:float": (
        re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
        "-+0123456789.",
    ),
}


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 scalars."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not allowed", self.get_mark())
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain name", node.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        return int(self.construct_scalar(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return float(self.construct_scalar(node))


for _tag, (_pattern, _first) in SCALARS.items():
    for _character in [*_first, *([""] if _tag.endswith("null") else [])]:
        _Loader.yaml_implicit_resolvers.setdefault(_character, []).append((_tag, _pattern))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes the texts which YAML 1.2 would read as numbers, such as `1e5`."""

    yaml_implicit_resolvers: dict[str, Any] = {
        first: list(found) for first, found in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    _Dumper.yaml_implicit_resolvers.setdefault(_first, []).extend(_resolvers)


def read_yaml(text: str, where: str) -> dict[str, Any]:
    """A YAML mapping as a dict. Raises UsageError with the line for anything else."""
    if len(text) > LIMIT:
        raise UsageError("yaml_too_long", where=where, length=len(text), limit=LIMIT)
    _check_depth(text, where)
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError("yaml", where=where, detail=" ".join(str(error).split())) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError("yaml_mapping", where=where, kind=type(value).__name__)
    return value


def read_scalar(text: str) -> object:
    """The value in `key=value`, with the same rules as in a file; what is no scalar stays text.

    Numbers in full-width characters are numbers: `８`, `１ｅ－４`.
    """
    if not text.isascii() and NUMBER.fullmatch(narrow := unicodedata.normalize("NFKC", text).strip()):
        text = narrow
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError:
        return text
    if not isinstance(node, yaml.ScalarNode) or node.tag not in SCALARS:
        return text if not isinstance(node, yaml.ScalarNode) or node.style is None else node.value
    return read_yaml(f"value: {text}", "value")["value"]


def write_yaml(values: dict[str, Any]) -> str:
    """A flat mapping as YAML that read_yaml reads back to the same values."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _check_depth(text: str, where: str) -> None:
    """Depth is counted on the event stream, because composing 10,000 levels would exhaust Python's stack."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH:
                raise UsageError("yaml_depth", where=where, limit=DEPTH)
    except yaml.YAMLError as error:
        raise UsageError("yaml", where=where, detail=" ".join(str(error).split())) from None
