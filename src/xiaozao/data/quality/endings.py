"""Whether a text breaks off in the middle of a sentence, by the words that it ends with.

"Please choose one of the", "The price is", "请您在" break off. "Yes, it is", "that is what it was for", "审核已通过" do
not, though they end with the same words: English leaves a preposition or a verb at the end where a question word, an
infinitive or a short answer stands before it.
"""

import re

from xiaozao.data.quality.languages import language

LOOKED_AT = 400  # characters at the end
OPEN = re.compile(r"[,，、；:：(（\[【]\Z")
ALWAYS = {"and", "the", "because", "your", "our"}
MOSTLY = {"or", "but", "an", "my", "their"}  # in English; other languages have words that look like them
VERBS = {"is", "are", "was", "were"}
STRANDED = {"of", "to", "with", "for", "by", "in", "from"}
WORDS = ALWAYS | MOSTLY | VERBS | STRANDED | {"a", "if", "that", "which"}  # only these can break off
# Only what ends so in Chinese can break off.
HAN_ENDS = (
    "和", "与", "或", "及", "并且", "而且", "但是", "因为", "所以", "如果", "然后", "请您在", "请在", "例如",
    "对于", "关于", "通过", "包括", "或者",
)  # fmt: skip
LAST = re.compile(r"([A-Za-z][\w'’]*)\Z")
CLAUSE = re.compile(r"[.!?;:\n—–]\s|[。！？]")
ASKING = re.compile(
    r"(?i)\b(?:what|who|whom|which|where|when|why|how|that|as|than|whatever|wherever|like|everything|anything|nothing"
    r"|something|all|one|ones|place|thing|things|way|people|someone|anyone)\b"
)
SHORT = re.compile(r"(?i)\A\W*(?:yes|no|sure|of course|indeed|so|neither|nor|oh|well|right|certainly|absolutely)\b")
SAID = re.compile(
    r"(?i)\b(?:it|he|she|i|you|we|they|there|here|this|that|these|those|so|neither|nor)"
    r"(?: (?:really|just|still|already|always|never|certainly|probably|also|only))? \w+\Z"
)
INFINITIVE = re.compile(r"(?i)\bto (?!the\b|your\b|our\b|a\b|an\b|my\b)[a-z]+\b.*\b\w+\Z")
WISH = re.compile(
    r"(?i)\b(?:want|wants|wanted|need|needs|needed|like|liked|love|have|has|had|able|going|used|try|tried|ought|allowed"
    r"|supposed|plan|planned|asked|told|meant|wish|prefer|hope|hoped|got|willing|ready|due|free|happy|expected|entitled"
    r"|eligible|required|not) to\Z"
)
PASSIVE = re.compile(
    r"(?i)\b(?:(?:paid|cared|accounted|asked|looked|called|hoped|searched|vouched|allowed) for"
    r"|(?:dealt|tampered|interfered|parted) with|(?:heard|thought|spoken|approved|disposed|made|taken care|rid) of"
    r"|(?:listened|referred|attended|replied|responded|agreed|objected|subscribed|talked|spoken) to"
    r"|(?:lived|believed|filled|signed|logged|checked|plugged|handed|turned|typed|let) in|abided by|heard from)\Z"
)
PHRASAL = re.compile(
    r"(?i)\b(?:(?:log|sign|check|come|fill|plug|hand|turn|bring|move|drop|opt|type|step|let|get|go|put|send|is|are|be"
    r"|stay|walk|call|ring|settle|blend|fit|cash|pay|key|trade|take|live)(?:s|es|ed|ing|ting|ging)?"
    r"(?: (?:it|them|him|her|me|us|you|everyone|(?:the|your|our) \w+))? in"
    r"|(?:stop|drop|come|pass|swing|go|stand|fly|get|slip)(?:s|es|ped|ping|ing)? by"
    r"|(?:ask|pay|care|wait|look|go|call|fall|vouch|allow)(?:s|ed|ing)? for"
    r"|(?:agree|cope|help|start|begin|deal|play|go|live|come)(?:s|ed|ing)? with|kind of|sort of|hereof|side by)\Z"
)
ANNOUNCED = re.compile(
    r"(?i)\b(?:note|ensure|sure|means?|confirm|remember|say|says|said|so|such|given|provided|assuming|fact|check|aware"
    r"|see to it|recommend|suggest|believe|hope|the|require|understand|regret|sorry) that\Z"
)
WHICH = re.compile(r"(?i)(?:,|\b(?:in|of|for|with|by|from|on|to|at|after|during|through|the)) which\Z")
LETTER = re.compile(
    r"(?i)\b(?:option|answer|plan|vitamin|grade|class|type|group|appendix|section|part|level|size|hepatitis|letter|team"
    r"|model|variant|version|building|gate|terminal|zone|platform) a\Z"
)
HAN_ALWAYS = re.compile("(?:以及|并且|而且|但是|因为|所以|如果|或者|然后|的话，和|请您在|请在|例如|对于|关于)\\Z")
HAN = re.compile(
    "(?:(?<![温饱平缓随谦调总暖共亲祥附应讲求中柔])和|(?<![参赠给授])与|(?<!间)或|(?<![得不波普涉提顾遍危触])及"
    "|(?:[，。；：、]|请|您|您可|可以|需要|需|会|将|可|是|我们)通过|(?<![都全不也没已未])包括)\\Z"
)


def breaks_off(text: str) -> bool:
    """Whether a text ends with a sign or a word that has to go on."""
    end = text[-LOOKED_AT:].rstrip()
    if OPEN.search(end):
        return True
    last = LAST.search(end)
    if last is None:
        return bool(HAN_ALWAYS.search(end) or HAN.search(end))
    word = last[1].lower()
    if word in ALWAYS:
        return True
    if word not in WORDS or language(text[-300:]) != "en":
        return False
    clause = CLAUSE.split(end)[-1].strip()
    return word in MOSTLY or _is_open(word, clause, last[1])


def _is_open(word: str, clause: str, written: str) -> bool:
    """Whether the last clause has nothing that lets it end with this word."""
    if word == "if":
        return True
    if word == "a":
        return written == "a" and not LETTER.search(clause)
    if word == "that":
        return bool(ANNOUNCED.search(clause))
    if word == "which":
        return bool(WHICH.search(clause))
    if SHORT.search(clause) or ASKING.search(clause):
        return False
    if word in VERBS:
        return not SAID.search(clause)
    if word == "to":
        return not (WISH.search(clause) or PASSIVE.search(clause) or INFINITIVE.search(clause.removesuffix(" to")))
    return not (PHRASAL.search(clause) or PASSIVE.search(clause) or INFINITIVE.search(clause))
