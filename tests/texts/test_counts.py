"""Numbers in the texts of evaluations: no "(s)" that leaves the plural to the reader."""

import re

from xiaozao.texts.catalogue import catalogue

OURS = re.compile(r"(?:error\.)?(?:eval|bench|form|breach|blind|summary)[._]|notice\.busy_cores")


def test_no_text_of_an_evaluation_leaves_the_plural_open() -> None:
    texts = {key: text for key, text in catalogue("en").items() if OURS.match(key)}
    assert len(texts) > 100
    assert [key for key, text in texts.items() if "(s)" in text] == []
