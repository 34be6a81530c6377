"""Voting in the terminal: a question with both answers, one key for each choice, every vote on the disk at once."""

from collections.abc import Callable

import click
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from xiaozao.cli.console import Output, show
from xiaozao.evaluate.blind.ballot import BlindVote, Pair
from xiaozao.evaluate.blind.outcome import decided_early, decisive
from xiaozao.evaluate.blind.votes import Choice, VoteLog, Votes
from xiaozao.evaluate.statistics.sequential import wins_to_stop

SIDE_BY_SIDE = 100  # columns from which on both answers stand beside each other
KEYS: dict[str, Choice] = {
    "a": "a", "b": "b", "t": "tie", "x": "bad", "s": "skip", "\x1b[D": "a", "\x1b[C": "b", "\x1bOD": "a", "\x1bOC": "b",
}  # fmt: skip
UNDO, LEAVE = "u", ("q", "\x04", "\x1a")
# Full-width letters, as an input method types them.
WIDE = {chr(ord(letter) + 0xFEE0): letter for letter in "abtxsuqABTXSUQ"}


class Booth:
    """A voter at a terminal. read_key: returns one key press."""

    def __init__(
        self, vote: BlindVote, log: VoteLog, voter: str, output: Output, read_key: Callable[[], str] = click.getchar
    ) -> None:
        self._vote, self._log, self._voter, self._output, self._read_key = vote, log, voter, output, read_key
        self._order = vote.order(voter)

    @property
    def left(self) -> int:
        """How many pairs this voter has not voted on."""
        return self._log.read().open(self._voter, [pair.id for pair in self._order])

    def vote(self) -> int:
        """Ask until every pair has a vote or the voter leaves; returns the exit code."""
        status = self._output.say("blind.hello", voter=self._voter, commitment=self._vote.ballot.commitment)
        while True:
            votes = self._log.read()
            chosen = votes.choices.get(self._voter, {})
            pair = next((one for one in self._order if one.id not in chosen), None)
            if pair is None:
                show(self._output.stdout, status)
                return 0
            self._show(pair, votes, status)
            key = self._key()
            if key in LEAVE:
                return 0
            if key == UNDO:
                undone = self._log.undo(self._voter)
                status = self._output.say("blind.undone" if undone else "blind.nothing_to_undo")
            elif key in KEYS:
                self._log.vote(self._voter, pair.id, KEYS[key])
                status = self._output.say("blind.voted", choice=self._output.say(f"blind.sheet.{KEYS[key]}"))

    def _key(self) -> str:
        """The next key that means something."""
        while True:
            try:
                pressed = self._read_key()
            except EOFError:
                return LEAVE[0]
            key = WIDE.get(pressed, pressed)
            key = key.lower() if len(key) == 1 else key
            if key in KEYS or key in LEAVE or key == UNDO:
                return key

    def _show(self, pair: Pair, votes: Votes, status: str) -> None:
        console = self._output.stdout
        console.clear()
        show(console, Group(Text(status, style="dim"), *self._advice(votes), self._page(pair, votes)))

    def _page(self, pair: Pair, votes: Votes) -> RenderableType:
        say, width = self._output.say, self._output.stdout.width
        chosen = votes.choices.get(self._voter, {})
        place = say(
            "blind.place", number=len(chosen) + 1, total=len(self._order),
            skipped=sum(choice == "skip" for choice in chosen.values()),
        )  # fmt: skip
        question = Panel(Text(pair.question or say("blind.sheet.empty")), title=place, title_align="left")
        panes = [
            Panel(Text(text or say("blind.sheet.empty")), title=say(f"blind.sheet.answer_{side}"), title_align="left")
            for side, text in pair.texts.items()
        ]
        answers: RenderableType = Group(*panes)
        if width >= SIDE_BY_SIDE:
            grid = Table.grid(expand=True)
            for _ in panes:
                grid.add_column(ratio=1)
            grid.add_row(*panes)
            answers = grid
        return Group(question, answers, Text(say("blind.keys"), style="bold"))

    def _advice(self, votes: Votes) -> list[Text]:
        """Whether one may stop; else how many votes for one model would allow it. Which way it stands is not told."""
        if votes.voters not in ((), (self._voter,)) or votes.issued:
            return []
        chosen = votes.choices.get(self._voter, {})
        count = decisive(self._vote.key, chosen)
        if decided_early(self._vote.key, chosen):
            return [Text(self._output.say("blind.may_stop", count=count), style="bold green")]
        needed = wins_to_stop(count)
        key = "blind.so_far" if needed else "blind.so_far_few"
        return [Text(self._output.say(key, count=count, needed=needed or 0), style="dim")]
