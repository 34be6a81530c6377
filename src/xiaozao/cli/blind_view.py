"""The result of a blind vote: a sentence, a table and the questions that were lost; for a program, everything."""

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output
from xiaozao.evaluate.blind.ballot import BlindVote
from xiaozao.evaluate.blind.outcome import Outcome
from xiaozao.evaluate.statistics.intervals import SIGNIFICANT
from xiaozao.evaluate.telling import p_value, power, preference, probability, whole

STYLES = {"tuned": "bold green", "base": "bold red"}
LOST = 9  # questions that are listed
LONGEST = 120  # characters of one


def result_view(result: Outcome, vote: BlindVote, name: str, output: Output) -> RenderableType:
    """The result for a person."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for key, value in _rows(result, vote, output):
        table.add_row(output.say(f"blind.row.{key}"), Text(value))
    parts: list[RenderableType] = [Text(preference(result, output.language), style=STYLES.get(result.verdict, "bold"))]
    if result.why == "asked":
        parts.append(Text(output.say("blind.early"), style="yellow"))
    lost = [question.text for question in result.questions if question.winner == "base"]
    parts += [Text(power(result, output.language)), Text(""), table]
    if lost:
        parts += [Text(""), Text(output.say("blind.lost", shown=min(LOST, len(lost)), count=len(lost)), style="dim")]
        parts += [Text(f"  - {_short(text)}") for text in lost[:LOST]]
    return Group(*parts)


def _rows(result: Outcome, vote: BlindVote, output: Output) -> list[tuple[str, str]]:
    say, lengths = output.say, result.lengths
    rows = [
        ("votes", say("blind.counts", wins=result.wins, losses=result.losses, ties=result.ties, bad=result.both_bad)),
        ("left_out", say("blind.left_out", skipped=result.skipped, same=result.same)),
        ("net", f"{_points(result.net)} ({_points(result.net_interval.low)} … {_points(result.net_interval.high)})"),
        ("posterior", probability(result.posterior)),
        ("evidence", f"{min(result.evidence, 1e6):.3g}"),
        ("sides", say("blind.sides_biased" if result.sides.p < SIGNIFICANT else "blind.sides",
                      a=result.sides.a, b=result.sides.b, p=p_value(result.sides.p))),
        ("lengths", say("blind.lengths", base=round(lengths.base), tuned=round(lengths.tuned),
                        won=lengths.longer_won, of=lengths.of)),
        ("adjusted", f"{whole(lengths.adjusted.share)}% ({whole(lengths.adjusted.interval.low)} … "
                     f"{whole(lengths.adjusted.interval.high)}%)"),
        *(("consistency", say("blind.consistency", voter=one.voter, same=one.same, of=one.of))
          for one in result.consistency),
    ]  # fmt: skip
    if len(result.voters) > 1:
        alpha = "–" if result.alpha is None else f"{result.alpha:.2f}"
        rows.append(("agreement", say("blind.agreement", voters=len(result.voters), alpha=alpha)))
    if result.kappa is not None and result.kappa.value is not None:
        interval = result.kappa.interval
        rows.append(("kappa", f"{result.kappa.value:.2f} ({interval.low:.2f} … {interval.high:.2f})"))
    rows.append(("commitment", say("blind.opened", commitment=vote.ballot.commitment, salt=vote.key.salt)))
    return rows


def result_document(result: Outcome, vote: BlindVote) -> dict[str, Any]:
    """The result for a program, with every question and the key."""
    return {
        "verdict": result.verdict, "why_shown": result.why, "voters": list(result.voters),
        "wins": result.wins, "losses": result.losses, "ties": result.ties, "both_bad": result.both_bad,
        "skipped": result.skipped, "decisive": result.decisive,
        "share": result.wins / result.decisive if result.decisive else None, "interval": asdict(result.interval),
        "p": result.p, "posterior": result.posterior, "evidence": min(result.evidence, 1e300),
        "net": result.net, "net_interval": asdict(result.net_interval),
        "wins_needed": result.needed, "detectable": result.detectable,
        "sides": asdict(result.sides), "lengths": asdict(result.lengths),
        "consistency": [asdict(one) for one in result.consistency], "alpha": result.alpha,
        "kappa": None if result.kappa is None else asdict(result.kappa),
        "salt": vote.key.salt, "mapping": vote.key.mapping,
        "answers": [asdict(question) for question in result.questions],
    }  # fmt: skip


def _points(share: float) -> str:
    return f"{100 * share:+.0f}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
