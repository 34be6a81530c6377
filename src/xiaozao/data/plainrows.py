"""The rows that most files are made of, read without the questions that other forms need: `messages` and nothing else.

{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}

What is not of exactly this form is left to formats.parse_row, which reads it the same way and slower.
"""

from xiaozao.data.formats import Conversation
from xiaozao.data.rows import Row
from xiaozao.data.turns import TURNS, Turn

ROLES = {"system", "user", "assistant"}


def read_plain(row: Row) -> Conversation | None:
    """The conversation of a row of the plain form; None for every other row, whether it is in order or not."""
    values = row.values
    listed = values.get("messages")
    if len(values) != 1 or type(listed) is not list or not 2 <= len(listed) <= TURNS:
        return None
    turns = []
    for turn in listed:
        if type(turn) is not dict or len(turn) != 2:
            return None
        role, content = turn.get("role"), turn.get("content")
        if type(role) is not str or role not in ROLES or type(content) is not str or not content.strip():
            return None
        turns.append(Turn(role, content))
    begins = turns[1].role if turns[0].role == "system" else turns[0].role
    return Conversation(tuple(turns), row.line) if begins == "user" and turns[-1].role == "assistant" else None
