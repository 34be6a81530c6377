"""`zao`: the list of verbs, and the one place that turns an error into a message and an exit code.

A verb is imported when it is called: `zao --help` answers in 0.3 s and never reaches torch. Exit codes are those of
xiaozao/errors.py, and 130 (Ctrl-C), 143 (SIGTERM), 141 (the reader of our output went away).
"""

import contextlib
import errno
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from xiaozao.cli.streams import LOST, open_streams
from xiaozao.cli.verb import OutputSettings, VerbGroup, error_text
from xiaozao.errors import EnvironmentProblem, UsageError, XiaozaoError
from xiaozao.spec.peers import told
from xiaozao.store.files import check_places, home, misplaced
from xiaozao.texts.visible import json_visible

LONGEST_NAME, LONGEST_PATH = 255, 4096  # bytes, on the file systems of today
SHOWN = 120  # characters of a name that is too long

BAD_VALUE = re.compile(r"'?(.*?)'? is not ")  # how click begins to say that a value will not do


def _declared(name: str) -> Callable[[], click.Command]:
    """A verb of cli/declared.py."""

    def command() -> click.Command:
        from xiaozao.cli import declared

        verb: click.Command = getattr(declared, name)
        return verb

    return command


def _asked(name: str) -> Callable[[], click.Command]:
    """A verb of cli/asked.py, which takes the options of a run."""

    def command() -> click.Command:
        from xiaozao.cli import asked

        verb: click.Command = getattr(asked, name)
        return verb

    return command


VERBS: dict[str, Callable[[], click.Command]] = {
    "demo": _declared("DEMO"),
    "doctor": _declared("DOCTOR"),
    "models": _declared("MODELS"),
    "data": _asked("DATA"),
    "plan": _asked("PLAN"),
    "train": _asked("TRAIN"),
    "launch": _asked("LAUNCH"),
    "runs": _declared("RUNS"),
    "eval": _declared("EVAL"),
    "chat": _declared("CHAT"),
    "export": _declared("EXPORT"),
    "disk": _declared("DISK"),
    "uninstall": _declared("UNINSTALL"),
}


class Zao(VerbGroup):
    """The root: knows the names of its verbs, imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return VERBS[cmd_name]() if cmd_name in VERBS else None


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"zao {version('xiaozao')}")
        context.exit()


ZAO = Zao(
    "zao",
    params=[
        click.Option(
            ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="cli.common.version"
        )
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The entry point of the command `zao`."""
    _speak_utf8()
    open_streams()
    code = run(sys.argv[1:])
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    sys.exit(code)


def _speak_utf8() -> None:
    """Restart this process in UTF-8 mode if the C locale allows only ASCII: other file names could not be opened."""
    if os.name == "posix" and sys.getfilesystemencoding() == "ascii" and not sys.flags.utf8_mode:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONUTF8": "1"})


def run(arguments: Sequence[str]) -> int:
    """Run one invocation and return the exit code. Raises nothing but SystemExit."""
    settings = OutputSettings(format="json" if _asks_json(arguments) else "auto")
    try:
        _check_text(arguments)
        with ZAO.make_context("zao", list(arguments), obj=settings) as context:
            check_places()
            code = ZAO.invoke(context)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at exit; give it somewhere to go.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except XiaozaoError as error:
        return report(error, settings)
    except click.ClickException as error:
        return report(usage(error), settings)
    except Exception as error:
        with error_log() as logger:
            logger.exception("unexpected")
        return report(environment(error) or unexpected(error), settings)


def _check_text(arguments: Sequence[str]) -> None:
    """Raises UsageError for an argument whose bytes are not valid text: it could not be written into any file."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(argument).decode("utf-8", "backslashreplace")
            raise UsageError("argument_bytes", argument=shown, command="zao") from None


def report(error: XiaozaoError, settings: OutputSettings) -> int:
    """Print the error on stderr, and with --json a document on stdout; returns the exit code."""
    language = settings.language
    if settings.debug:
        traceback.print_exception(error.__cause__ or error, file=sys.stderr)
    problems = [problem.text(language) for problem in error.problems]
    with contextlib.suppress(OSError):  # nobody may be there to read it; the code tells
        click.echo(error_text(error.code, error.what(language), problems, error.fix(language), language), err=True)
    if settings.format == "json":
        document = json_visible(json.dumps(error_document(error, settings), ensure_ascii=False, default=str))
        with contextlib.suppress(OSError):
            click.echo(document)
    return error.exit_code


def error_document(error: XiaozaoError, settings: OutputSettings) -> dict[str, Any]:
    """The error as a document for a program."""
    language = settings.language
    problems = [{"key": one.key, "params": one.params, "message": one.text(language)} for one in error.problems]
    body = {
        "code": error.code,
        "message": error.what(language),
        "fix": error.fix(language),
        "problems": problems,
        "key": error.key,
        "exit_code": error.exit_code,
    }
    return {"schema_version": 1, "error": body}


def usage(error: click.ClickException) -> XiaozaoError:
    """Click's complaint in our words."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context else "zao"
    match error:
        case click.NoSuchOption():
            peer = told(error.option_name, "?", {})
            if peer is not None and peer.ours:
                return UsageError(
                    "no_such_flag_peer", name=error.option_name, ours=", ".join(peer.ours), command=command
                )
            near = ", ".join(error.possibilities or [])
            key = "no_such_flag_near" if near else "no_such_flag"
            return UsageError(key, name=error.option_name, nearest=near, command=command)
        case click.MissingParameter():
            name = error.param.human_readable_name if error.param else ""
            return UsageError("missing_argument", name=name, command=command)
        case click.BadParameter() if isinstance(error.param, click.Option):
            allowed = _allowed(error.param.type)
            if allowed is not None:
                value = BAD_VALUE.match(error.message)
                name, got = error.param.opts[-1], value[1] if value else ""
                return UsageError("bad_choice", name=name, value=got, allowed=allowed, command=command)
            return UsageError("bad_flag", name=error.param.opts[-1], detail=error.message, command=command)
    return UsageError("usage", detail=error.format_message(), command=command)


def _allowed(kind: click.ParamType[Any]) -> dict[str, object] | None:
    """The values that a flag allows, as a text in the reader's language; None if click's own message is good enough."""
    if isinstance(kind, click.Choice):
        return {"text": "allowed", "kind": " | ".join(map(str, kind.choices)), "bounds": ""}
    whole = isinstance(kind, click.types.IntParamType)
    if not whole and not isinstance(kind, click.types.FloatParamType):
        return None
    signs = ((">=", getattr(kind, "min", None)), ("<=", getattr(kind, "max", None)))
    bounds = ", ".join(f"{sign} {bound}" for sign, bound in signs if bound is not None)
    key = "kind.whole_number" if whole else "kind.number"
    return {"text": "allowed", "kind": {"text": key}, "bounds": f" {bounds}" if bounds else ""}


def environment(error: Exception) -> XiaozaoError | None:
    """An OSError that the user can mend (a full disk, a missing permission, a name too long) as an error of ours.

    None for any other error.
    """
    keys = {
        errno.ENOSPC: "disk_full", errno.EDQUOT: "disk_full", errno.EACCES: "no_permission",
        errno.EPERM: "no_permission", errno.EROFS: "no_permission",
    }  # fmt: skip
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return too_long(error)
    if isinstance(error, NotADirectoryError | FileExistsError) and error.filename:
        return misplaced(Path(os.fsdecode(error.filename)))
    if not isinstance(error, OSError):
        return None
    if error in LOST:
        ours = EnvironmentProblem("output_lost", detail=error.strerror)
    elif error.errno not in keys:
        return None
    else:
        ours = EnvironmentProblem(keys[error.errno], path=error.filename or "?", detail=error.strerror)
    ours.__cause__ = error
    return ours


def too_long(error: OSError) -> XiaozaoError:
    """The error for a file name that is too long for the file system."""
    path = str(error.filename or "?")
    longest = max((len(os.fsencode(part)) for part in path.split(os.sep)), default=0)
    limit = LONGEST_NAME if longest > LONGEST_NAME else LONGEST_PATH
    shown = path if len(path) <= SHOWN else f"{path[:SHOWN]}..."
    size = longest if longest > LONGEST_NAME else len(os.fsencode(path))
    ours = UsageError("name_too_long", path=shown, bytes=size, limit=limit)
    ours.__cause__ = error
    return ours


def unexpected(error: Exception) -> XiaozaoError:
    """The error for a bug of ours: one line for the user; the traceback goes to the log."""
    detail = f"{type(error).__name__}: {error}".splitlines()[0]
    ours = XiaozaoError("crash", detail=detail, log=home() / "error.log")
    ours.__cause__ = error
    return ours


@contextmanager
def error_log() -> Iterator[logging.Logger]:
    """A logger of tracebacks, into error.log under home(); silent where that cannot be written."""
    logger = logging.Logger("xiaozao.cli")
    handler: logging.Handler = logging.NullHandler()
    # A full disk, or a home that is not ours: the message itself must still come through.
    with contextlib.suppress(OSError):
        home().mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(home() / "error.log", mode="w", encoding="utf-8")
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        handler.close()


def _asks_json(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for --json. Needed before parsing, because parsing itself may fail."""
    joined = " ".join(arguments)
    return "--json" in arguments or "--format=json" in arguments or "--format json" in joined
