"""What is wrong with the order of messages: two of one speaker on end, the same message twice, speakers swapped."""

import re

from xiaozao.data.formats import Conversation
from xiaozao.data.quality.findings import Check, Hit, head
from xiaozao.data.turns import Turn

LONG = 12  # characters of a message that nobody says twice by chance
HOST = re.compile(
    r"(?i)\A\W*(?:hello|hi|welcome|thank you|thanks)?[^.?!\n]{0,40}\bhow (?:can|may) i (?:help|assist) you\b"
    r"|\A\W*thank you for (?:contacting|reaching out)"
    r"|\Ai(?:['’]d| would) be (?:happy|glad) to (?:help|assist)|\A(?:certainly|of course|sure)[!,.] i(?: can"
    r"|['’]d be happy to) help"
    r"|(?:有什么|请问有什么|有啥)(?:可以|能|需要)?(?:帮|为)(?:您|到您|助您|您效劳|你)|\A(?:您好|你好"
    r"|亲)[，,！! ]?(?:这里是|我是).{0,12}客服|感谢您的(?:咨询|来电)|很高兴为您服务"
)
GUEST = re.compile(
    r"(?i)\A\W*(?:please |could you |can you |i (?:want|need|would like) to |help me |how (?:do"
    r"|can) i )[^\n]{0,160}\??\s*\Z"
    r"|(?:怎么办|怎么弄|怎么退|帮我|我想|我要|我的.{1,12}(?:呢|吗|没到)|请问).{0,60}[？?]?\s*\Z"
)


def same_role(conversation: Conversation) -> Hit | None:
    """Two messages of one speaker on end. A call of a tool and the words beside it are no fault."""
    for number, (before, turn) in _neighbours(conversation):
        if before.role == turn.role and turn.role in ("user", "assistant") and _mergeable(before, turn):
            return Hit(f"{turn.role}: {head(before.content, 40)} / {turn.role}: {head(turn.content, 40)}", number)
    return None


def repeated_turn(conversation: Conversation) -> Hit | None:
    """The same long message twice from one speaker: a copy that went wrong."""
    said: dict[tuple[str, str], int] = {}
    for number, turn in enumerate(conversation.turns, 1):
        if turn.role not in ("user", "assistant") or len(turn.content) < LONG or turn.calls:
            continue
        before = said.get((turn.role, turn.content))
        if before is not None and number - before <= 2:
            return Hit(head(turn.content), number)
        said[turn.role, turn.content] = number
    return None


def swapped(conversation: Conversation) -> Hit | None:
    """The user speaks as the host does, and the assistant does not."""
    spoken = [(number, turn) for number, turn in enumerate(conversation.turns, 1) if turn.role in ("user", "assistant")]
    hosts = [(number, turn) for number, turn in spoken if turn.role == "user" and HOST.search(turn.content[:200])]
    answered = [turn for _, turn in spoken if turn.role == "assistant" and HOST.search(turn.content[:200])]
    if not hosts or answered:
        return None
    number, turn = hosts[0]
    return Hit(head(turn.content), number)


def late_system(conversation: Conversation) -> Hit | None:
    """A system message after the talk has begun. Many templates refuse it."""
    for number, (_, turn) in _neighbours(conversation):
        if turn.role == "system":
            return Hit(head(turn.content), number)
    return None


def _mergeable(before: Turn, turn: Turn) -> bool:
    """Whether two messages of one speaker can become one: without calls and reasoning, both learned or both not."""
    plain = not (before.calls or turn.calls or before.reasoning or turn.reasoning)
    return plain and before.learned == turn.learned and before.name == turn.name


def _neighbours(conversation: Conversation) -> "list[tuple[int, tuple[Turn, Turn]]]":
    pairs = zip(conversation.turns, conversation.turns[1:], strict=False)
    return list(enumerate(pairs, 2))


CHECKS: dict[str, Check] = {
    "same_role": same_role,
    "repeated_turn": repeated_turn,
    "swapped": swapped,
    "late_system": late_system,
}
