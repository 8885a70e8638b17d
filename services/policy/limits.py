"""What an account may grow to, so that its state, and everything that is told of it, fits its topic.

Commands make an account larger: texts, holds, products and the memory of those that ended. Flows and timers move what
is there and gather a bounded number of entries, so they stay below what a topic takes where a command left enough room.
What the catalogue adds is bounded by its own contract.
"""

from collections.abc import Callable

import msgspec

from schemas.command import CancelProduct, Command
from schemas.state import AccountState

MAX_ACCOUNT_OCTETS = 256 * 1024
"""Largest state that a command may leave behind: a quarter of what the changelog takes; flows have the rest."""

_encode: Callable[[AccountState], bytes] = msgspec.msgpack.Encoder().encode


def too_large(command: Command, account: AccountState) -> str | None:
    """Why `command` may not lead to this state, with value, limit and next step; None if it may.

    A cancellation always may: what is ended is forgotten after a while.
    """
    octets = len(_encode(account))
    if octets <= MAX_ACCOUNT_OCTETS or isinstance(command, CancelProduct):
        return None
    return (
        f"account_id: the state of {account.account_id!r} would take {octets} octets, the limit is "
        f"{MAX_ACCOUNT_OCTETS}; send shorter texts, release holds, or wait until what has ended is forgotten"
    )
