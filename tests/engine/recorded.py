"""Worlds that show whether a replay is bit-identical."""

from typing import Any

import msgspec

from schemas.state import AccountState
from services.engine.outcome import Outcome
from tests.engine.world import World


class Recorded(World):
    """A World that keeps the octets of each outcome; as a successor it reads its state from them before each step."""

    successor = False

    def __init__(self, *args: Any, **more: Any) -> None:
        self.octets: list[bytes] = []
        super().__init__(*args, **more)

    def take(self, outcome: Outcome) -> Outcome:
        self.octets.append(msgspec.msgpack.encode(outcome))
        super().take(outcome)
        if self.successor:
            self.tariff.forget()
            self.account = msgspec.msgpack.decode(msgspec.msgpack.encode(outcome.account), type=AccountState)
        return outcome


class Successor(Recorded):
    """Remembers nothing but what the changelog has."""

    successor = True
