"""What WhatsApp writes into a chat in place of a message: polls, deleted messages, and what it could not show.

A text counts only as a whole, so that nobody's words about a poll or a deleted message are taken for one.
"""

import re

POLLS = (
    "poll",
    "投票",
    "umfrage",
    "encuesta",
    "sondage",
    "enquete",
    "sondaggio",
    "アンケート",
    "투표",
    "опрос",
    "peiling",
)
OPTIONS = ("option", "选项", "選項", "選択肢", "옵션", "opción", "opção", "opzione", "вариант", "optie")
DELETED = (
    r"this message was deleted(?: by .{1,60})?",
    r"you deleted this message(?: as admin)?",
    "此?消息已(?:被.{1,30})?删除",
    "此?訊息已(?:被.{1,30})?刪除",
    "(?:您|你)(?:已)?删除了?(?:这条|此|该)消息",
    "(?:您|你)(?:已)?刪除了?(?:此|這則)訊息",
    "diese nachricht wurde (?:von .{1,60} )?gelöscht",
    "du hast diese nachricht gelöscht",
    "(?:se eliminó este mensaje|este mensaje fue eliminado)(?: por .{1,60})?",
    "eliminaste este mensaje",
    "(?:ce )?message (?:a été )?supprimé(?: par .{1,60})?",
    "vous avez supprimé ce message",
    "(?:esta )?mensagem (?:foi )?apagada(?: por .{1,60})?",
    "(?:você )?apagou esta mensagem",
    "questo messaggio è stato eliminato",
    "hai eliminato questo messaggio",
    "(?:この)?メッセージ(?:は削除されました|を削除しました)",
    "(?:삭제된 메시지입니다|이 메시지는 삭제되었습니다|이 메시지를 삭제했습니다)",
    "(?:данное|это) сообщение удалено",
    "вы удалили (?:данное|это) сообщение",
    "dit bericht is verwijderd",
    "je hebt dit bericht verwijderd",
)
UNSHOWN = (
    r"waiting for this message",
    "正在等待(?:此消息|這則訊息|此訊息)",
    "(?:auf diese nachricht wird gewartet|warten auf diese nachricht)",
    "esperando (?:este|el) mensaje",
    "en attente d[eu] (?:ce )?message",
    "aguardando (?:esta )?mensagem",
    "in attesa (?:del|di questo) messaggio",
    "(?:この)?メッセージを待っています",
    "(?:이 )?메시지를 기다리는 중",
    "ожидание (?:этого )?сообщения",
    "wachten op dit bericht",
    r"(?:you (?:received|sent) an? )?view[- ]once (?:message|photo|video|voice message)",
    "(?:您|你)?(?:收到|发送|傳送)?了?(?:一条|一则|一則|一张|一張)?(?:仅可|只能|仅限|僅限)?(?:查看|阅读|檢視)一次的?(?:消息|照片|视频|语音|訊息|影片)",
    "(?:阅后即焚|閱後即焚)的?(?:消息|照片|视频|訊息)?",
    "(?:(?:nachricht|foto|video) )?(?:zur )?einmalansicht",
    "(?:mensaje|foto|video) de visualización única",
    "(?:message|photo|vidéo) à (?:vue|affichage|voir) (?:unique|une fois)",
    "(?:mensagem|foto|vídeo) de visualização única",
    "(?:messaggio|foto|video) visualizzabile una volta",
    "null",
)
POLL = re.compile(
    rf"(?:{'|'.join(POLLS)})\s?[:：]\s*(?:\S.*(?:{'|'.join(OPTIONS)})\s?[:：].*)?", re.IGNORECASE | re.DOTALL
)
MARKS = {
    "poll": POLL,
    "recalled": re.compile(f"(?:{'|'.join(DELETED)})[.。]?", re.IGNORECASE),
    "system_line": re.compile(f"(?:{'|'.join(UNSHOWN)})(?:[.。].{{0,160}})?", re.IGNORECASE),
}


def mark_of(text: str) -> str:
    """Why a text is no message of anybody's; "" where it is one."""
    return next((reason for reason, pattern in MARKS.items() if pattern.fullmatch(text.strip())), "")
