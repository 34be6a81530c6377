"""Order numbers, and the other numbers of a message: telephone, price, post code."""

import random
import string
from collections.abc import Callable

from xiaozao.demo.shipped import Language


def _digits(rng: random.Random, count: int) -> str:
    return str(rng.randrange(10 ** (count - 1), 10**count))


def _letters(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(string.ascii_uppercase, k=count))


ORDER_FORMATS: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: f"{_letters(rng, 1)}-{_digits(rng, 4)}",
    lambda rng: f"{_letters(rng, 2)}{_digits(rng, 4)}",
    lambda rng: f"{_letters(rng, 2)}-{_digits(rng, 3)}",
    lambda rng: _digits(rng, 5),
    lambda rng: f"{_digits(rng, 2)}-{_digits(rng, 3)}",
    lambda rng: f"{_letters(rng, 1)}{_digits(rng, 4)}".lower(),
)
PHONE_FORMATS: dict[Language, tuple[Callable[[random.Random], str], ...]] = {
    "en": (
        lambda rng: f"555-{_digits(rng, 4)}",
        lambda rng: f"0{_digits(rng, 3)} {_digits(rng, 5)}",
        lambda rng: f"+44 {_digits(rng, 4)} {_digits(rng, 4)}",
    ),
    "zh": (
        lambda rng: f"1{rng.choice('3578')}{_digits(rng, 9)}",
        lambda rng: f"0{_digits(rng, 2)}-{_digits(rng, 8)}",
    ),
}
PRICE_FORMATS: dict[Language, tuple[str, ...]] = {
    "en": ("{}.90", "${}", "£{}.50", "{} euros"),
    "zh": ("{}元", "{}块", "{}.9元", "￥{}"),
}


class Numbers:
    """Draws numbers; an order number or a telephone number is drawn only once, whatever the part."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._seen: set[str] = set()

    def order(self, rng: random.Random) -> str:
        """An order number in one of the shop's formats."""
        return self._new(rng, ORDER_FORMATS)

    def phone(self, rng: random.Random) -> str:
        """A telephone number, which is not an order number."""
        return self._new(rng, PHONE_FORMATS[self._language])

    def price(self, rng: random.Random) -> str:
        """A price with or without its currency."""
        return rng.choice(PRICE_FORMATS[self._language]).format(rng.randint(6, 240))

    def postcode(self, rng: random.Random) -> str:
        """A post code."""
        return self._new(rng, (lambda rng: _digits(rng, 5 if self._language == "en" else 6),))

    def _new(self, rng: random.Random, formats: tuple[Callable[[random.Random], str], ...]) -> str:
        while True:
            number = rng.choice(formats)(rng)
            if number.casefold() not in self._seen:
                self._seen.add(number.casefold())
                return number
