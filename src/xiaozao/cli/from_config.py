"""`zao train --from-config FILE`: reports line by line which options were taken from another tool's file."""

from pathlib import Path
from typing import Any

from xiaozao.cli.console import Output
from xiaozao.spec.peerfile import Translation, read_peer_file


def brought(path: str | None, output: Output) -> Translation:
    """The options in another tool's file, each reported on stderr; empty without a file."""
    if path is None:
        return Translation({}, (), ())
    translation = read_peer_file(Path(path).expanduser())
    every = len(translation.taken) + len(translation.left)
    output.note("peers.taken", file=path, count=len(translation.taken), all=every)
    for taken in translation.taken:
        output.hint(f"  {output.say('peers.moved', **taken.words())}")
    if translation.left:
        output.note("peers.left", count=len(translation.left))
    for problem in translation.left:
        output.hint(f"  - {problem.text(output.language)}")
    return translation


def document(translation: Translation, output: Output) -> dict[str, Any]:
    """The translation as a document for a program."""
    return {
        "taken": [{"name": one.name, "value": one.value, "options": dict(one.ours)} for one in translation.taken],
        "left": [
            {"name": one.params["name"], "key": one.key, "text": one.text(output.language)} for one in translation.left
        ],
    }
