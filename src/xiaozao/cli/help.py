"""The help page of a verb: usage, what it does, its options, two examples, in the reader's language."""

import unicodedata
from collections.abc import Sequence

import click

from xiaozao.texts.catalogue import Language, has, say

WIDTH = 100
INDENT = 26
KINDS = {name: "kind.whole_number" for name in ("integer", "integer range")} | {
    name: "kind.number" for name in ("float", "float range")
}


def help_page(
    command: click.Command, context: click.Context, common: Sequence[click.Option], language: Language
) -> str:
    """The whole page. Verbs of a group are listed without importing them."""
    key = text_key(context.command_path)
    own = [
        parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter not in common and not parameter.hidden
    ]
    usage = _usage(command, context, own, language)
    parts = [say("cli.usage", language) + say("colon", language) + usage, "", *_about(key, language)]
    if isinstance(command, click.Group):
        names = command.list_commands(context)
        rows = [(name, summary(f"{context.command_path} {name}", language)) for name in names]
        parts += _section("cli.verbs", rows, language)
    parts += _section("cli.options", [_row(option, language) for option in own], language)
    help_row = ("-h, --help", say("cli.common.help", language))
    parts += _section("cli.common", [*(_row(option, language) for option in common), help_row], language)
    examples = say(f"{key}.examples", language).splitlines()
    parts += ["", say("cli.examples", language) + say("colon", language).rstrip(), *(f"  {line}" for line in examples)]
    return "\n".join(parts) + "\n"


def text_key(command_path: str) -> str:
    """`zao data check` -> cli.data.check; `zao` -> cli.zao."""
    return "cli." + (".".join(command_path.split()[1:]) or "zao")


def summary(command_path: str, language: Language) -> str:
    """The first line of what a verb does."""
    return say(text_key(command_path), language).splitlines()[0]


def width_of(text: str) -> int:
    """Columns on a screen: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns. English breaks at spaces, Chinese anywhere but before punctuation."""
    lines, line = [], ""
    for piece in _pieces(text):
        if line and width_of(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return [*lines, line.rstrip()]


def _pieces(text: str) -> list[str]:
    """Unbreakable pieces: a word with the space after it, or one Chinese character with the punctuation after it."""
    pieces: list[str] = []
    for letter in text:
        wide = width_of(letter) == 2
        starts = not pieces or pieces[-1].endswith(" ") or (wide and unicodedata.category(letter)[0] != "P")
        if starts or (not wide and width_of(pieces[-1][-1]) == 2 and letter != " "):
            pieces.append(letter)
        else:
            pieces[-1] += letter
    return pieces


def _usage(command: click.Command, context: click.Context, own: Sequence[click.Option], language: Language) -> str:
    words = [context.command_path]
    if isinstance(command, click.Group):
        words.append(say("cli.usage.verb", language))
    if own:
        words.append(say("cli.usage.options", language))
    for argument in command.params:
        if isinstance(argument, click.Argument):
            name = argument.metavar or (argument.name or "").upper()
            many = " ..." if argument.nargs == -1 else ""
            words.append(name + many if argument.required else f"[{name}{many}]")
    return " ".join(words)


def _about(key: str, language: Language) -> list[str]:
    return [line for paragraph in say(key, language).splitlines() for line in wrap(paragraph, WIDTH - 2)]


def _row(option: click.Option, language: Language) -> tuple[str, str]:
    names = ", ".join(option.opts)
    if isinstance(option.type, click.Choice):
        names += f" [{'|'.join(map(str, option.type.choices))}]"
    elif not option.is_flag:
        names += f" {option.metavar or say(KINDS.get(option.type.name, 'kind.text'), language)}"
    text = option.help or ""
    text = say(text, language) if has(text) else text
    if option.show_default:
        default = option.show_default
        plain = f"{say('cli.default', language)}{say('colon', language)}{option.default}"
        text += f" [{default if isinstance(default, str) else plain}]"
    return names, text


def _section(key: str, rows: Sequence[tuple[str, str]], language: Language) -> list[str]:
    if not rows:
        return []
    lines = ["", say(key, language) + say("colon", language).rstrip()]
    for name, text in rows:
        first, *rest = wrap(text, WIDTH - INDENT)
        if len(name) > INDENT - 4:
            lines.append(f"  {name}")
            rest = [first, *rest]
        else:
            lines.append(f"  {name:<{INDENT - 2}}{first}")
        lines += [" " * INDENT + line for line in rest]
    return lines
