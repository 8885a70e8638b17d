"""What a step of the engine yields: the account's new state and everything that has to be told to the world."""

from typing import NamedTuple

from schemas.decision import PolicyDecision, PolicyUpdate
from schemas.notification import Notification
from schemas.state import AccountState
from schemas.usage import RatedUsage


class Position(NamedTuple):
    """Where an input record stood: it makes every id derived from it unique and repeatable."""

    topic: str
    partition: int
    offset: int


class Outcome(NamedTuple):
    """New state and outputs, in the order in which they happened. `account` replaces the old state."""

    account: AccountState
    decision: PolicyDecision | None = None
    updates: tuple[PolicyUpdate, ...] = ()
    notifications: tuple[Notification, ...] = ()
    usage: tuple[RatedUsage, ...] = ()


class Refusal(NamedTuple):
    """A command that cannot be carried out: the rule it broke, and what to do next."""

    cause: str
    detail: str
