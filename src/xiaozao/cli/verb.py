"""What every verb of `zao` shares: the common options, help in the reader's language, two examples.

    @click.command("disk", cls=Verb)
    @click.option("--free", is_flag=True, help="cli.disk.free")      # help is a key of the catalogues
    def command(free: bool) -> None:
        output = current_output()                                   # cli/console.py
        output.result(table, {"models": ...})

The texts of `zao data check` are `cli.data.check` (what it does) and `cli.data.check.examples` (one example a line).
A verb returns None or its exit code, and raises XiaozaoError; cli/main.py does the rest.
"""

import locale
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import click

from xiaozao.cli.help import help_page
from xiaozao.errors import UsageError
from xiaozao.texts.catalogue import Language, language_from, language_of, say

Format = Literal["auto", "human", "json", "quiet"]
FORMATS: tuple[Format, ...] = ("auto", "human", "json", "quiet")


def reader_language() -> Language:
    """The reader's language; without LANG, as on Windows, that of the system's locale."""
    if os.name == "nt" and not any(os.environ.get(name) for name in ("ZAO_LANG", "LC_ALL", "LC_MESSAGES", "LANG")):
        return language_of(locale.getlocale()[0] or "")
    return language_from()


def error_text(code: str, what: str, problems: Sequence[str], fix: str, language: Language) -> str:
    """An error as every verb shows it: what happened, all that is wrong, what to do."""
    lines = [f"{say('cli.error', language)}[{code}] {what}", *(f"  - {problem}" for problem in problems)]
    return "\n".join([*lines, f"{say('cli.fix', language)}{say('colon', language)}{fix}"] if fix else lines)


@dataclass
class OutputSettings:
    """The common options read so far. Mutable, because they may stand before or after the verb."""

    format: Format = "auto"
    no_color: bool = False
    debug: bool = False
    yes: bool = False
    language: Language = field(default_factory=reader_language)


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    settings = context.ensure_object(OutputSettings)
    if value and parameter.name in ("json", "quiet"):
        settings.format = "json" if parameter.name == "json" else "quiet"
    elif value and parameter.name:
        setattr(settings, parameter.name, value)


def _common(*names: str, key: str, choice: tuple[str, ...] = ()) -> click.Option:
    return click.Option(
        names,
        is_flag=not choice,
        type=click.Choice(choice) if choice else None,
        help=key,
        expose_value=False,
        callback=_remember,
        is_eager=True,  # read first, so that a mistake in another option is reported in the right format
    )


COMMON: tuple[click.Option, ...] = (
    _common("--json", key="cli.common.json"),
    _common("--format", key="cli.common.format", choice=FORMATS),
    _common("-q", "--quiet", key="cli.common.quiet"),
    _common("--no-color", key="cli.common.no_color"),
    _common("--debug", key="cli.common.debug"),
    _common("-y", "--yes", key="cli.common.yes"),
)


class Verb(click.Command):
    """A click command with the common options, used as `cls=Verb`. Its help texts are keys of the catalogues."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *COMMON]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(help_page(self, ctx, COMMON, reader_language()))


class VerbGroup(click.Group):
    """A group of verbs, such as `data` in `zao data check`. Called alone, it prints its help."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *COMMON]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(help_page(self, ctx, COMMON, reader_language()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None:
            verbs = ", ".join(self.list_commands(ctx))
            raise UsageError("no_such_verb", name=name, verbs=verbs, command=ctx.command_path)
        return super().resolve_command(ctx, args)
