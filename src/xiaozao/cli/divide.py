"""`zao data split`: a file into train, validation and questions, and how near the parts still are."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output, current_output
from xiaozao.cli.datafile import agree_to_write, data_spec, share
from xiaozao.cli.options import gather
from xiaozao.data.division import PARTS, VALIDATION, WRITTEN, Division, Shares, divide_file
from xiaozao.data.twins import COMPONENT, TWIN
from xiaozao.errors import DataError, UsageError
from xiaozao.texts.catalogue import counted

OWN = ("train", "validation", "questions", "seed", "by")
SUMMARY = "summary.json"


def split_file(file: str, arguments: tuple[str, ...], out: str, **flags: str | None) -> None:
    output = current_output()
    options = gather(arguments, flags)
    shares = _shares({name: options.pop(name) for name in OWN if name in options})
    spec = data_spec(file, options, output)
    folder = Path(out).expanduser()
    files = {name: folder / f"{name}.jsonl" for name in WRITTEN}
    agree_to_write(output, spec, [*files.values(), folder / SUMMARY])
    with output.stages() as report:
        try:
            division = divide_file(spec, shares, files, report)
        except DataError as error:
            if error.key == "data_stratify":
                params = error.params
                raise DataError(
                    "split_by", path=params["path"], field=params["field"], fields=params["fields"]
                ) from None
            raise
    for name in WRITTEN:
        if name not in division.files:
            files[name].unlink(missing_ok=True)  # of an earlier division, which was agreed to
    document = _document(division, shares)
    (folder / SUMMARY).write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    output.result(_view(division, output), {**document, "folder": str(folder)}, quiet=str(folder))


def _shares(given: dict[str, Any]) -> Shares:
    sizes = {name: share(name, given[name]) for name in ("train", "validation", "questions") if name in given}
    if sizes.get("train") == 0:
        raise UsageError("split_share", name="train", value=given["train"])
    seed = given.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise UsageError("split_seed", value=seed)
    by = given.get("by")
    return Shares(**sizes, seed=seed, by=None if by is None else str(by))


def _document(division: Division, shares: Shares) -> dict[str, Any]:
    document = asdict(division)
    document["files"] = {name: str(path) for name, path in division.files.items()}
    return {**document, "seed": shares.seed}


def _view(division: Division, output: Output) -> RenderableType:
    sign = "✔" if output.unicode else "+"
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify, no_wrap=justify != "left", overflow="fold")
    for name in PARTS:
        if name in division.rows or name in division.conversations:
            count = division.rows.get(name, division.conversations.get(name, 0))
            table.add_row(f"  {output.say(f'split.part.{name}')}", f"{count:,}", str(division.files.get(name, "")))
    return Group(
        Text(f"{sign} {output.say('split.done', path=division.path, rows=division.rows_read)}", style="bold green"),
        table, *(Text(f"  {line}", overflow="fold") for line in _facts(division, output)),
        *(Text(f"! {line}", style="yellow") for line in _warnings(division, output)),
        Text(output.say("split.next", command=_command(division)), style="dim"),
    )  # fmt: skip


def _facts(division: Division, output: Output) -> list[str]:
    kept = "split.by_guessed" if division.guessed else "split.by"
    facts = [output.say("split.groups", groups=division.groups, rows=sum(division.conversations.values()))]
    facts += [output.say(kept, field=division.by) if division.by else output.say("split.by_none")]
    if division.as_conversations:
        facts.append(output.say("split.chatlog"))
    if any(division.dropped.values()):
        facts.append(output.say("split.dropped", reasons=counted(division.dropped, output.language)))
    for pair in division.between:
        names = {"part": output.say(f"split.part.{pair.part}"), "other": output.say(f"split.part.{pair.other}")}
        if pair.most is None:
            facts.append(output.say("split.apart", **names, cosine=COMPONENT))
        else:
            counts = {"twins": pair.twins, "alike": pair.alike, "most": f"{pair.most:.2f}"}
            facts.append(output.say("split.between", **names, **counts, twin=TWIN, cosine=COMPONENT))
    return facts


def _warnings(division: Division, output: Output) -> list[str]:
    return [output.say("split.divided", rows=division.divided)] if division.divided else []


def _command(division: Division) -> str:
    given = {name: path for name, path in division.files.items() if name != "train"}
    options = [f"{name}={path}" for name, path in given.items()]
    validation = [] if VALIDATION in given else ["validation=none"]
    return " ".join(["zao train model=MODEL", f"data={division.files['train']}", *options, *validation])
