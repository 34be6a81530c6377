"""The letters of languages by their frequency, and how likely a text is as one of that language.

Likelihoods of several languages and encodings for the same bytes can be compared: each is a sum of log probabilities.
"""

import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache

WORD = re.compile(r"[^\W\d_]+")
PUNCTUATION = set("，。？！：；、“”‘’（）《》【】…—–～·「」『』«»№°€£§©®™¿¡„•×´¨ªº\xa0\u3000\u200e\u200f،؟؛")
TYPOGRAPHIC = set("’“”‘…–—")  # which many languages' texts hold more often than letters with accents
HANZI = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定"
    "天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什"
    "二等产或新己制身果加西月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活更别打女变四神总何电数安少报才结反"
    "受目太量再感建务做接必场件计管期市直资命山金指许统区保至队形社便空决治展马科司五基书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该"
    "交规万取拉格望觉术领共确传师观清今切院让识候带导争运吗您请谢呢吧亲货快递退款订单客服店买卖价钱付尺码颜换修坏收查"
)
TRADITIONAL = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經麼去法學如都同現當沒動面起看定"
    "天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又關點正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什"
    "二等產或新己制身果加西月話合回特代內信表化老給世位次度門任常先海通教兒原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活更別打女變四神總何電數安少報才結反"
    "受目太量再感建務做接必場件計管期市直資命山金指許統區保至隊形社便空決治展馬科司五基書非則聽白卻界達光放強即像難且權思王象完設式色路記南品住告類求據程北邊死張該"
    "交規萬取拉格望覺術領共確傳師觀清今切院讓識候帶導爭運嗎您請謝呢吧親貨快遞退款訂單客服店買賣價錢付尺碼顏換修壞收查"
)
KANA = (
    "いのたしてにとをがでるすなはまれかこっうらもりあくそきせんさだよおけどえつやばみじわろげちぐほべめご"
    "びょずひぶねへむゆぎぜゃゅーンスルトリイラクアレドシタロジマプサフッコメテカ"
)
KANJI = (
    "日一人年大本中出時分行国会事者社的上手見合前今間気生自学部家方場女名月新地物言水力何私下後長来話用高"
    "金体書度品店送料返商注文届配達確認問質答電子変更保証曜火木土午通可能必要内容場合方法営業受付"
)
HANGUL = (
    "이다는에을를의가고하지한은도로기사어대아니서시해요습입수있것그나들자인라일만리정전보주부스여제연구상장면안우소원내과으성거게적국공조동유용경오신무당방모세분마할문물비"
    "회중선미계통됩배송품환불교반료택님합까금토월화목청려드러양후호때또같었했없"
)


@dataclass(frozen=True)
class Language:
    """A language: its characters, the most frequent first, and how its script behaves.

    wide: characters of two bytes. latin: letters stand among ASCII letters. others: how many more characters it has.
    """

    name: str
    letters: str
    encodings: tuple[str, ...]
    wide: bool = False
    latin: bool = False
    others: int = 0

    @cached_property
    def logs(self) -> dict[str, float]:
        """The log probability of each character among those that are not ASCII."""
        if self.wide:
            return dict.fromkeys(self.letters, math.log(0.75 / len(set(self.letters))))
        weights = {letter: 1 / (rank + 4) for rank, letter in enumerate(dict.fromkeys(self.letters))}
        total = sum(weights.values())
        logs = {letter: math.log(0.9 * weight / total) for letter, weight in weights.items()}
        capitals = {letter.upper(): log - 3 for letter, log in logs.items() if len(letter.upper()) == 1}
        return {**capitals, **logs}

    def likelihood(self, text: str) -> float:
        """The log probability of the characters of a text that are not ASCII."""
        characters, words = _counted(text)
        total = sum(count * self._of(character) for character, count in characters.items())
        return total + sum(count * self._of_word(word) for word, count in words.items())

    def _of(self, character: str) -> float:
        log = self.logs.get(character)
        if log is not None:
            return log
        if character in PUNCTUATION or "\uff01" <= character <= "\uff5e":
            return -4.0 if self.latin and character in TYPOGRAPHIC else -5.5 if self.wide else -6.5
        if self.wide and self._is_rare(character):
            return math.log(0.2 / self.others)
        return -17.0 if self.wide else -20.0 if unicodedata.category(character)[0] == "C" else -11.0

    def _is_rare(self, character: str) -> bool:
        """Whether a character belongs to the script, though it is not among the frequent ones."""
        if self.name == "Korean":
            return "\uac00" <= character <= "\ud7a3"
        if self.name == "Chinese":
            return _within(character, "gb2312")
        if self.name == "Traditional Chinese":
            return "\u4e00" <= character <= "\u9fff" and character.encode("big5", errors="ignore")[:1] < b"\xc9"
        return "\u3041" <= character <= "\u30ff" or _within(character, "euc-jp")

    def _of_word(self, word: str) -> float:
        """What the shape of a word says: scripts are not mixed, and capitals stand at the beginning."""
        ascii_letters = sum(map(str.isascii, word))
        others = len(word) - ascii_letters
        if self.latin:
            penalty = 4.0 * max(0, others - 2) if others > ascii_letters else 0.0
        else:
            penalty = 6.0 if ascii_letters and not self.wide else 0.0
        if not any(map(str.isupper, word)):
            return -penalty
        inner = sum(later.isupper() and before.islower() for before, later in zip(word, word[1:], strict=False))
        return -penalty - 4.0 * inner


@lru_cache(maxsize=8)
def _counted(text: str) -> tuple[Counter[str], Counter[str]]:
    """The characters and the words of a text that are not ASCII. Every language asks for those of the same text."""
    characters = Counter(character for character in text if character > "\x7f")
    return characters, Counter(word for word in WORD.findall(text) if not word.isascii())


def _within(character: str, encoding: str) -> bool:
    try:
        return len(character.encode(encoding)) == 2
    except UnicodeEncodeError:
        return False


WEST = ("cp1252", "mac_roman", "cp850")
CENTRAL = ("cp1250", "iso8859_2", "cp852", "mac_latin2")
CYRILLIC = ("cp1251", "koi8_u", "koi8_r", "iso8859_5", "cp866", "mac_cyrillic")
LANGUAGES = (
    Language("Chinese", HANZI, ("gb18030",), wide=True, others=6000),
    Language("Traditional Chinese", TRADITIONAL, ("big5hkscs", "cp950"), wide=True, others=5000),
    Language("Japanese", KANA + KANJI, ("cp932", "euc_jp"), wide=True, others=4000),
    Language("Korean", HANGUL, ("cp949", "johab"), wide=True, others=2300),
    Language("Russian", "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё", CYRILLIC),
    Language("Ukrainian", "оанивіертслкудмпзяьбгйчхцжїєшщюфґ", CYRILLIC),
    Language("Bulgarian", "аиоентрсвлкдпмъязугбчйщхшцжюфь", CYRILLIC),
    Language("Greek", "αοιετσνηυρπκμλωςίάόέήδγύώχθφβξζψ", ("cp1253", "iso8859_7")),
    Language("Hebrew", "יוהלארתבשמנםדעקחפכגסטןזצךףץ", ("cp1255", "iso8859_8")),
    Language("Arabic", "اليمنرتوبعدسفهكقحجةىشصطخأإذءضزئثغآظؤًَُِّ", ("cp1256", "iso8859_6")),
    Language("Persian", "اینردمهوتبسشکلزگفقخچعجحپصآطغضثژئظذء\u200c", ("cp1256",)),
    Language("Thai", "านรอกเงยลมทวสตดหปคบพีั้่ิืไชะขจแใุู็ำ์ผซถศโธณญษฟฐฉภ", ("cp874",)),
    Language("French", "éèàêçôîâûùëïœæ", WEST, latin=True),
    Language("German", "üäöß", WEST, latin=True),
    Language("Spanish", "óíáéñúü", WEST, latin=True),
    Language("Portuguese", "ãçáéíóõêâúàô", WEST, latin=True),
    Language("Italian", "èàùòìé", WEST, latin=True),
    Language("Nordic", "åäöøæéðþíáóúý", WEST, latin=True),
    Language("Polish", "łóżęąśćńź", CENTRAL, latin=True),
    Language("Czech", "íáéřěčžšýůúťňóďľôŕä", CENTRAL, latin=True),
    Language("Hungarian", "áéöőíóüúű", CENTRAL, latin=True),
    Language("Romanian", "ăîâţşșț", CENTRAL, latin=True),
    Language("Croatian", "čšžćđ", CENTRAL, latin=True),
    Language("Turkish", "ıüşöğçİâ", ("cp1254",), latin=True),
    Language("Baltic", "āšėīēąžęčųįūõäöüņļģķ", ("cp1257", "iso8859_4"), latin=True),
    Language("Vietnamese", "đăâêôơưàáãèéìíòóùúý\u0300\u0301\u0303\u0309\u0323", ("cp1258",), latin=True),
)
