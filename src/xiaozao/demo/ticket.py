"""The ticket that the demo's model learns to write, and the values it may take.

Three rules make every ticket decidable from the message alone:

- intent: what the customer asks for, not the trouble he tells of. A request he rejects ("no refund, please") does not
  count; of two requests the first one counts ("by the way, could you also ..." comes second).
- product, order: as the customer wrote them, the product in lower case and without its colour; null when not named.
- urgency: what is said about time; "normal" when nothing is said.
"""

import json
from dataclasses import asdict, dataclass

INTENTS = ("refund", "exchange", "tracking", "cancel", "address", "invoice", "stock", "repair")
URGENCIES = ("low", "normal", "high")
FIELDS = ("intent", "product", "order", "urgency")


@dataclass(frozen=True)
class Ticket:
    """One answer. The order of the fields is their order in the JSON."""

    intent: str
    product: str | None
    order: str | None
    urgency: str

    def as_json(self) -> str:
        """The ticket as compact JSON, as it is in the data."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))
