"""One flow on its way through select, charge and tell, and what became of its octets."""

from collections.abc import Mapping

import msgspec

from schemas.classification import Classification
from schemas.decision import Draw, Sponsorship
from schemas.fields import Treatment
from schemas.flow import FlowRecord
from services.engine.outcome import Position
from services.engine.purses import Paid
from services.engine.select import Selection
from services.engine.spans import Span


class Connection(msgspec.Struct, gc=False):
    """A connection that ended with the flow, and what it cost."""

    price_id: str
    micros: int
    money: int
    """The part of it that left the main balance (prepaid)."""
    number_from: int
    number_to: int
    payments: tuple[Paid, ...] = ()
    """What purses gave of it."""
    counter_id: str | None = None
    """The price's running total."""


class Case(msgspec.Struct, gc=False):
    """What the steps need to know of one flow, and the tally that charging fills in.

    In the end `charged + free + sponsored + blocked + not_charged = octets`. A Struct, since it is made for every
    flow, and a Struct is made five times faster than an object.
    """

    flow: FlowRecord
    classification: Classification
    selection: Selection
    """What the flow met at its first octet."""
    at: Position
    octets: int
    at_ms: int
    now_ms: int
    treatment: Treatment
    """The one word for the whole flow; what the rule wants until `dominate` looks at the octets."""
    leases: Mapping[str, int] | None = None
    """Octets left here of each campaign's budget; None = budgets are not kept, and every campaign pays on."""
    charged: int = 0
    free: int = 0
    sponsored: int = 0
    blocked: int = 0
    not_charged: int = 0
    draws: tuple[Draw, ...] = ()
    micros: int = 0
    """Out-of-bundle money of the flow."""
    money: int = 0
    """The part of it that left the main balance (prepaid)."""
    price_id: str | None = None
    counter_id: str | None = None
    """The price's running total."""
    price_from: int | None = None
    price_to: int | None = None
    price_capped: bool = False
    note: str | None = None
    connection: Connection | None = None
    payments: tuple[Paid, ...] = ()
    """What purses gave for octets."""
    sponsorships: tuple[Sponsorship, ...] = ()
    span: Span | None = None
    """Its octets and time, where they are not those of one record: in a correction."""

    def dominate(self) -> None:
        """Set the treatment to the largest part.

        Among equal parts the first of charged, sponsored, free, blocked, not_charged; a flow without octets keeps
        what its rule wanted.
        """
        parts: tuple[tuple[int, Treatment], ...] = (
            (self.charged, "charged"), (self.sponsored, "sponsored"), (self.free, "free"), (self.blocked, "blocked"),
            (self.not_charged, "not_charged"),
        )  # fmt: skip
        largest = max(parts, key=lambda part: part[0])
        if largest[0]:
            self.treatment = largest[1]
