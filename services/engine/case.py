"""One flow on its way through select, charge and tell, and what became of its octets."""

from schemas.classification import Classification
from schemas.decision import Draw
from schemas.fields import Treatment
from schemas.flow import FlowRecord
from services.engine.outcome import Position
from services.engine.select import Selection


class Case:
    """What the steps need to know of one flow, and the tally that charging fills in.

    In the end `charged + free + sponsored + blocked + not_charged = octets`. What most flows leave at its default is
    a class attribute, since setting twelve fields that stay empty costs more than all the rest of such a flow.
    """

    charged = 0
    free = 0
    sponsored = 0
    blocked = 0
    not_charged = 0
    draws: tuple[Draw, ...] = ()
    micros = 0
    """Out-of-bundle money of the flow."""
    money = 0
    """The part of it that left the main balance (prepaid)."""
    price_id: str | None = None
    price_from: int | None = None
    price_to: int | None = None
    price_capped = False
    note: str | None = None

    def __init__(
        self, flow: FlowRecord, classification: Classification, selection: Selection, *, at: Position, octets: int,
        at_ms: int, now_ms: int,
    ) -> None:  # fmt: skip
        self.flow = flow
        self.classification = classification
        self.selection = selection
        """The rule that the flow met at its first octet."""
        self.at = at
        self.octets = octets
        self.at_ms = at_ms
        self.now_ms = now_ms
        self.treatment = selection.treatment
        """The one word for the whole flow; what the rule wants until `dominate` looks at the octets."""

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
