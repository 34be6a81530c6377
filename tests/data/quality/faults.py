"""The texts of faults: what is written into a clean answer, in both languages, with several variants of each.

All names and numbers are invented; the identity numbers belong to no district.
"""

from xiaozao.data.quality.private import CHECK_DIGITS, WEIGHTS


def identity(start: str) -> str:
    """An identity number with the right check digit."""
    return start + CHECK_DIGITS[sum(int(a) * b for a, b in zip(start, WEIGHTS, strict=True)) % 11]


IDS = [identity(start) for start in ("99010119900307451", "88020219851224332", "77030320010615018")]
IDS = [identity("1" + start[1:17]) for start in IDS]


def card(start: str) -> str:
    """A card number with the right check digit."""
    doubled = [int(digit) if index % 2 else sum(divmod(2 * int(digit), 10)) for index, digit in enumerate(start[::-1])]
    return start + str(-sum(doubled) % 10)


CARDS = (card("453914880343646"), card("622202123456789012"), card("530129847561234"))
CARDS = (" ".join(CARDS[0][at : at + 4] for at in range(0, 16, 4)), *CARDS[1:])
Texts = tuple[tuple[str, str], ...]

# What stands at the end of an answer: (English, Chinese), a line a variant.
APPENDED: dict[str, Texts] = {
    "phone_cn": (
        (" Call 13912345678.", "请拨打 13912345678。"),
        (" Ring +86 138 1234 5678.", "他的手机是+86 138 1234 5678。"),
        (" Ask 156-1234-5678.", "联系人王先生，156-1234-5678。"),
    ),
    "phone_intl": (
        (" Call +1 415 555 0134.", "海外电话 +1 415 555 0134。"),
        (" Call (415) 555-0134.", "电话 (415) 555-0134。"),
        (" Call +44 20 7946 0958.", "英国电话 +44 20 7946 0958。"),
    ),
    "id_card": tuple((f" The card says {number}.", f"身份证号是{number}。") for number in IDS),
    "bank_card": tuple((f" It was paid with {number}.", f"卡号是{number}。") for number in CARDS),
    "iban": (
        (" Pay to GB82 WEST 1234 5698 7654 32.", "请汇到 GB82 WEST 1234 5698 7654 32。"),
        (" Pay to DE89370400440532013000.", "账户为DE89370400440532013000。"),
        (" Pay to FR14 2004 1010 0505 0001 3M02 606.", "收款账户 FR14 2004 1010 0505 0001 3M02 606。"),
    ),
    "email": (
        (" Write to li.wei82@qq.com.", "邮箱是li.wei82@qq.com。"),
        (" Write to anna.berg@posteo.de.", "请写信到anna.berg@posteo.de。"),
        (" Her mail is j_smith1979@gmail.com!", "她的邮箱：j_smith1979@gmail.com"),
    ),
    "address": (
        (" Send it to 27 Orchard Grove Lane, Apt 5.", "请寄到江宁区梧桐路38号院6号楼1203室。"),
        (" He lives at 1600 Willow Creek Drive, Springfield.", "收货地址：滨江区白马湖路112号。"),
        (" Bring it to 8 North Station Road, Unit 12.", "家住杨柳镇青石巷7号3单元502室。"),
    ),
    "messenger_id": (
        (" My QQ: 284719365.", "我的QQ号是284719365。"),
        (" WeChat: wx_lily1988 is mine.", "微信号：wx_lily1988。"),
        (" Ask on QQ 7719203344.", "加我QQ：7719203344。"),
    ),
    "api_key": (
        (f" Use {'sk-'}proj-Q8vZr2LmX0pTn5KdY7wBc3Hj.", f"密钥是{'sk-'}proj-Q8vZr2LmX0pTn5KdY7wBc3Hj。"),
        (f" Set {'AKIA'}Z7QX4M2N8P5R1T3V.", f"访问密钥：{'AKIA'}Z7QX4M2N8P5R1T3V"),
        (
            f" Token {'ghp'}_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8.",
            f"令牌 {'ghp'}_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8。",
        ),
    ),
    "private_key": tuple(
        (f"\n-----BEGIN {kind}PRIVATE KEY-----\nMIIEvQ\n-----END {kind}PRIVATE KEY-----",) * 2
        for kind in ("", "RSA ", "EC ")
    ),
    "password": (
        (" The password is Kx7!mango22.", "密码是Kx7!mango22。"),
        (" Password: winter2019A", "密码：winter2019A"),
        (" pwd=Tr0ub4dor&3", "口令：Tr0ub4dor&3"),
    ),
    "ip_address": (
        (" The printer is at 10.23.4.117.", "打印机地址是10.23.4.117。"),
        (" Log in to 192.168.31.9 first.", "先登录192.168.31.9。"),
        (" The server 61.135.169.121 is down.", "服务器61.135.169.121已停机。"),
    ),
    "plate": (
        (" The plate is 京A·7B392.", "车牌是京A·7B392。"),
        (" The plate is 沪C82K57.", "车牌号沪C82K57。"),
        (" See 粤BD12345.", "车牌粤BD12345。"),
    ),
    "placeholder": (
        (" Best wishes, {{agent_name}}.", "您的订单号是{{订单号}}。"),
        (" Yours, [Company Name].", "【姓名】您好，已为您登记。"),
        (" Dear <CUSTOMER_NAME>, thank you.", "请联系XXX先生。"),
        (" Sign here: ________.", "金额：________元。"),
        (" Your number is ${order_id}.", "请致电[客服电话]。"),
    ),
    "template_token": (
        ("<|im_end|>", "<|im_end|>"),
        ("</s>", "</s>"),
        ("\n### Response: Thanks.", "\n### Response: 谢谢。"),
        (" [/INST]", "[/INST]"),
        ("<|eot_id|>", "<｜end▁of▁sentence｜>"),
    ),
    "markup": (
        ("<br>Thanks.", "<br/>谢谢。"),
        ("&nbsp;Bye.", "&nbsp;再见。"),
        (' <p class="x">See you.</p>', "<p>欢迎再来。</p>"),
        (" Fish &amp; chips.", "A&amp;B 商店。"),
    ),
    "escapes": (
        ("\\n\\nThanks.", "\\n\\n谢谢。"),
        (' He said \\"yes\\".', '他说\\"可以\\"。'),
        (" \\u4f60\\u597d.", "\\u4f60\\u597d。"),
    ),
    "control": ((" Thank you\x07.", "谢谢\x07。"), ("\x0b Bye.", "\x0b再见。"), (" It is\x7f fine.", "没\x85问题。")),
    "invisible": (
        (" Thank\u200b you.", "谢\u200b谢。"),
        ("\ufeff Bye.", "\ufeff再见。"),
        (" Fine\u2060.", "没\u200e问题。"),
    ),
    "full_width": (
        (" Call １２３４５.", "请拨打１２３４５。"),
        (" Size ＸＬ.", "尺码ＸＬ。"),
        (" Room Ａ１.", "Ａ１室。"),
    ),
    "white_space": (("  ", "  "), ("\r\nBye.", "\r\n再见。"), ("\n\n\n\n\nBye.", "\n\n\n\n\n再见。")),
    "hanging": (
        (" You may also contact us and", "您也可以联系我们，或者"),
        (" For this you need a receipt,", "办理时需要带上购买凭证，"),
        (" Please choose one of the", "需要的材料包括"),
    ),
    "no_end": (
        (
            " It also holds for everything that you ordered in the same week from our shop",
            "同一周内在本店订购的其他商品也都适用这个规定",
        ),
        (
            " Our colleagues in the workshop will let you know on the phone when it can be fetched",
            "维修间的同事会打电话告诉您什么时候可以来取走它",
        ),
        (
            " Please keep the receipt until the two years of the warranty have passed completely",
            "请务必保留购买凭证直到两年的保修期全部结束",
        ),
    ),
    "unbalanced": (
        (" See the table (page three.", "详见说明书（第三页。"),
        ("\n```\nprint it", "\n```\n打印出来"),
        (" Read “The manual first.", "请阅读《使用手册。"),
    ),
    "disclaimer": (
        (" As an AI language model, I cannot visit shops.", "作为一个AI语言模型，我没有去过门店。"),
        (" I am ChatGPT and have no opinion.", "我是一个人工智能助手，没有个人看法。"),
        (" My knowledge cutoff is long ago.", "截至我的知识更新时间，还没有相关信息。"),
    ),
    "loop": (
        (" Please wait for us." * 5, "请您稍等。" * 6),
        (" we check we check we check we check we check", "正在查询正在查询正在查询正在查询正在查询"),
        (" It will be sent soon to your door." * 4, "包裹很快就会送到您的门口。" * 5),
    ),
}
# What stands in place of an answer.
REPLACED: dict[str, Texts] = {
    "hollow_answer": (("N/A", "无"), ("...", "……"), ("TODO", "略")),
    "one_word": (("Yes.", "好。"), ("Certainly.", "行。"), ("No", "否")),
    "refusal": (
        ("I'm sorry, but I can't assist with that request.", "抱歉，我无法提供相关的帮助。"),
        ("I cannot help with this question.", "对不起，我不能回答这个问题。"),
        ("Sorry, but I am unable to help you with that.", "很抱歉，我无法为您提供这项服务。"),
    ),
    "answer_language": (
        (
            "您好，这件商品三天之内就可以送到，请您耐心等待。",
            "Your parcel will reach you within three days, please be patient.",
        ),
        (
            "Su pedido llegará en tres días y puede pagar en la puerta de su casa con tarjeta.",
            "You can return the goods within thirty days if they are not used.",
        ),
        (
            "Ihr Paket ist auf dem Weg und wird in drei Tagen bei Ihnen sein, wir danken für die Geduld.",
            "We are sorry for the delay and will send the goods to you today.",
        ),
    ),
    "mojibake": (
        ("Itâ€™s on its way, the cafÃ© will call you.", "鎮ㄥソ锛岃鍗曞凡鍙戣揣"),
        ("It is \ufffd\ufffd on its way to you.", "您的\ufffd\ufffd已经发货。"),
        ("Â£20 will be refunded to you.", "锟斤拷锟斤拷，请稍等。"),
    ),
    "speaker": (
        ("Assistant: Your parcel is on its way.", "客服：您的包裹已经发出。"),
        ("Answer: It takes three days.", "回答：大约需要三天。"),
        (
            "It takes three days.\nUser: Thank you!\nAssistant: You are welcome.",
            "大约三天。\n用户：谢谢！\n助手：不客气。",
        ),
    ),
    "unclosed_think": (
        ("<think>The customer wants a parcel. It takes three days.", "<think>客户想知道时间。大约需要三天。"),
        ("The customer is angry.</think> It takes three days.", "客户着急了。</think>大约需要三天。"),
        ('<tool_call>{"name": "track"} It takes three days.', '<tool_call>{"name": "track"}大约三天。'),
    ),
}
LONG_QUESTIONS = {
    "en": (
        "Last Monday two sofas and a bookshelf were ordered for my sister's new flat, but the courier left only one of "
        "them with the neighbours downstairs; who can tell me where the others are?",
        "Since the update of your app the page of my invoices stays white on every telephone in our house, although we "
        "have removed it twice and typed our address anew each time; is anybody working on it?",
        "Our school would like to borrow forty chairs for the concert in June, to be brought on Friday afternoon and "
        "fetched on the morning after; do you lend furniture at all, and what deposit is asked?",
    ),
    "zh": (
        "上周一我给姐姐的新房订了两张沙发和一个书架，可是快递员只在楼下邻居那里放了其中一件，请问其余的什么时候能送到？",
        "自从你们的应用更新以后，我家每部手机上的发票页面都是一片空白，删掉重装两次也没有用，请问有人在处理吗？",
        "我们学校六月办音乐会想借四十把椅子，周五下午送来，第二天早上取走，请问你们出租家具吗，押金是多少？",
    ),
}
FOREIGN = (
    ("Когда приедет мой заказ, если я живу за городом?", "Заказ приедет через три дня, курьер позвонит заранее."),
    ("내 주문은 언제 도착하나요? 교외에 살고 있어요.", "주문은 사흘 안에 도착하며 기사님이 미리 전화합니다."),
    ("متى يصل طلبي إذا كنت أسكن خارج المدينة؟", "يصل الطلب خلال ثلاثة أيام وسيتصل بك السائق مسبقا."),
)
