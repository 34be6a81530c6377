"""How a user points at layers by name: `q_proj`, `model.layers.0.mlp.up_proj`, `*.mlp.*`, `re:.*\\.[0-9]\\.mlp.*`."""

import re
from fnmatch import fnmatchcase

GLOB = re.compile(r"[*?\[]")
REGEX = "re:"


def matches(name: str, target: str) -> bool:
    """Whether a layer with this full dotted name is meant.

    A target with `*`, `?` or `[` is a glob over the full name, one that begins with `re:` a regular expression over
    the full name, anything else the full name or its end from a dot on.
    """
    if target.startswith(REGEX):
        return re.fullmatch(target.removeprefix(REGEX), name) is not None
    if GLOB.search(target):
        return fnmatchcase(name, target)
    return name == target or name.endswith("." + target)


def broken(target: str) -> str | None:
    """What is wrong with a target that is a regular expression, or None."""
    try:
        re.compile(target.removeprefix(REGEX) if target.startswith(REGEX) else "")
    except re.error as error:
        return str(error)
    return None
