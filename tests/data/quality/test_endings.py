"""Texts that break off, and texts that end with the same words and do not."""

import pytest

from xiaozao.data.formats import Conversation, Turn
from xiaozao.data.quality.endings import breaks_off
from xiaozao.data.quality.replies import hanging

WHOLE = """Yes, it is
That is what it was
That is all there is
I will look into that
The parcel is where the others are
We know how expensive the shipping is
You can stay as long as you want to
There is nothing to worry about and nothing to deal with
The lamp comes with everything it was made for
You can pay for it when you come in
Please choose option A
The hotel offers plan A
That is something I never thought of
Your order has been taken care of
Here is the shop that you bought it from
It is what it is
That is the page you have to log in to
Thank you for letting us know that
If you need more help we are here for that
That is the reason we have it for
It is the colour that the other one is
You can return it any time you like to
I am sorry but I do not know which
We will let you know when it is ready to be picked up in
No, the blue one is not, but the green ones are
Please fill the form in
The mug is the one you asked for""".split("\n")
CUT = """You may also contact us and
For this you need a receipt,
Please choose one of the
The price of the lamp is
If it is broken, send us a photo of
You will receive a mail with
Please make sure that
Please bring your receipt to
The parcel will be delivered by
We sell lamps, mugs and a
You can call us or
The parcel was sent from
The items are sold in
Please note that the shop will only accept it if""".split("\n")
WHOLE_ELSEWHERE = """审核已通过
欢迎参与
现在还来得及
这些费用都包括
口味很温和
Wir fangen um neun Uhr morgens mit der Arbeit an
Il y en a
Se lo daremos en cuanto lo haya, y no en la que usted lo pidió a""".split("\n")
CUT_ELSEWHERE = """您也可以联系我们，或者
需要的材料包括
您可以通过
请您在
我们有衣服和
办理时需要带上购买凭证，""".split("\n")
BEFORE = "Thank you for writing to us. We are glad to help you with your order. "


@pytest.mark.parametrize("before", ["", BEFORE])
@pytest.mark.parametrize("text", WHOLE)
def test_an_ordinary_end_is_no_cut(text: str, before: str) -> None:
    assert not breaks_off(before + text)


@pytest.mark.parametrize("text", CUT)
def test_a_cut_is_told(text: str) -> None:
    assert breaks_off(BEFORE + text)
    said = (Turn("user", "hello"), Turn("assistant", BEFORE + text))
    assert hanging(Conversation(said, 1)) is not None


def test_ends_in_other_languages() -> None:
    assert [text for text in WHOLE_ELSEWHERE if breaks_off(text)] == []
    assert [text for text in CUT_ELSEWHERE if not breaks_off(text)] == []
