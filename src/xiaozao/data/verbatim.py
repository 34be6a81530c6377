"""Templates that write each message's content as it stands: rendered once for each order of roles, then filled in.

    {% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}

    roles (user, assistant)  ->  ("<|user|>", 0, "<|end|><|assistant|>", 1, "<|end|>")

`is_verbatim` is a proof by the template's program: contents are written out, alone or between other texts, and nothing
else is done with them. No test, filter or call sees one, so they decide nothing. What is not certain is no verbatim
template, and is rendered each time.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import nodes

MESSAGES, CONTENT = "messages", "content"
PLAIN = {"role", CONTENT}
STATEMENTS = (nodes.Template, nodes.Output, nodes.For, nodes.If)
ESCAPING = {"safe", "e", "escape"}  # what they give escapes a text that is added to it
OF_LOOP = {"first", "last", "index", "index0", "length", "revindex", "revindex0"}
MARK, MARKS = "\ue004%d\ue005", re.compile("\ue004([0-9]+)\ue005")
KEPT, LONGEST = 4096, 64  # orders of roles that are kept; turns of a conversation whose order is
Pieces = tuple[tuple[str, ...], tuple[int, ...]]  # the texts around the contents, and which contents stand between them


def is_verbatim(tree: nodes.Template) -> bool:
    """Whether a template writes contents out and does nothing else with them or with whole messages."""
    if not all(isinstance(node, STATEMENTS) for node in tree.find_all(nodes.Stmt)):
        return False
    if any(one.name in ESCAPING for one in tree.find_all(nodes.Filter)):
        return False
    loops = [loop for loop in tree.find_all(nodes.For) if _is_name(loop.iter, {MESSAGES})]
    variables = {loop.target.name for loop in loops if isinstance(loop.target, nodes.Name)}
    if len({id(loop.target) for loop in loops}) != len(loops) or any(
        not isinstance(loop.target, nodes.Name) for loop in tree.find_all(nodes.For)
    ):
        return False
    written: set[int] = set()  # ids of the nodes that are a content written out
    used: set[int] = {id(loop.iter) for loop in loops}  # of the names that stand where they may
    for output in tree.find_all(nodes.Output):
        for part in output.nodes:
            _collect(part, written)
    accesses: list[nodes.Getattr | nodes.Getitem] = [*tree.find_all(nodes.Getattr), *tree.find_all(nodes.Getitem)]
    for access in accesses:
        name = _field(access)
        if _is_name(access.node, {"loop"}) and name in OF_LOOP:
            used.add(id(access.node))
        elif _is_message(access.node, variables, used):
            method = name is None or hasattr(dict, name)
            if method or (name == CONTENT and id(access) not in written):
                return False
        elif name == CONTENT:
            return False
    wanted = {*variables, MESSAGES, "loop"}
    return all(id(name) in used or name.ctx != "load" for name in tree.find_all(nodes.Name) if name.name in wanted)


class Verbatim:
    """The pieces of a verbatim template, by the roles of the messages. render: the template itself."""

    def __init__(self, render: Callable[[Sequence[Mapping[str, Any]], bool, Mapping[str, bool] | None], str]) -> None:
        self._render = render
        self._pieces: dict[tuple[object, ...], Pieces] = {}

    def fill(
        self, messages: Sequence[Mapping[str, Any]], add_prompt: bool, switches: Mapping[str, bool] | None
    ) -> str | None:
        """The text of messages that have a role and a text as content and nothing else; None for other messages.

        Raises what the template raises.
        """
        if len(messages) > LONGEST or not all(
            message.keys() == PLAIN and type(message[CONTENT]) is str and type(message["role"]) is str
            for message in messages
        ):
            return None
        roles = tuple(message["role"] for message in messages)
        key = (roles, add_prompt, tuple(switches.items()) if switches else ())
        pieces = self._pieces.get(key)
        if pieces is None:
            marked = [{"role": role, CONTENT: MARK % number} for number, role in enumerate(roles)]
            parts = MARKS.split(self._render(marked, add_prompt, switches))
            pieces = tuple(parts[::2]), tuple(map(int, parts[1::2]))
            if len(self._pieces) >= KEPT:
                self._pieces.clear()
            self._pieces[key] = pieces
        texts, places = pieces
        filled = [
            text for pair in zip(texts, (messages[place][CONTENT] for place in places), strict=False) for text in pair
        ]
        return "".join([*filled, texts[-1]])


def _collect(part: nodes.Node, written: set[int]) -> None:
    """Note the accesses that are an output by themselves, or joined with other texts to one."""
    if isinstance(part, nodes.Add):
        _collect(part.left, written)
        _collect(part.right, written)
    elif isinstance(part, nodes.Concat):
        for inner in part.nodes:
            _collect(inner, written)
    elif isinstance(part, nodes.Getattr | nodes.Getitem):
        written.add(id(part))


def _is_message(node: nodes.Node, variables: set[str], used: set[int]) -> bool:
    """Whether a node is one message, the loop's or `messages[0]`; its name is noted as used."""
    if _is_name(node, variables):
        used.add(id(node))
        return True
    indexed = isinstance(node, nodes.Getitem) and _is_name(node.node, {MESSAGES}) and _is_number(node.arg)
    if indexed and isinstance(node, nodes.Getitem):
        used.add(id(node.node))
    return indexed


def _is_number(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and type(node.value) is int


def _is_name(node: nodes.Node, names: set[str]) -> bool:
    return isinstance(node, nodes.Name) and node.name in names


def _field(access: "nodes.Getattr | nodes.Getitem") -> str | None:
    """The name of the field that is asked for, where it is certain."""
    if isinstance(access, nodes.Getattr):
        return access.attr
    return access.arg.value if isinstance(access.arg, nodes.Const) and isinstance(access.arg.value, str) else None
