"""What a lane has to do at a later time: emit gathered usage, renew cycles, end products.

Wall clock decides when a timer runs, since no record may come to bring an event time.
"""

import heapq
from collections.abc import Iterator

from schemas.state import AccountState
from services.engine.timers import next_due_ms


class Agenda:
    """Due times by account. Usage is due in arrival order, so a dict is its queue; the calendar needs a heap."""

    def __init__(self, usage_interval_ms: int) -> None:
        self._usage_interval_ms = usage_interval_ms
        self.early_usage_ms = usage_interval_ms * 2 // 3
        """Usage that has been gathered for so long leaves with the account's next flow, before its timer."""
        self._usage: dict[str, int] = {}
        self._calendar: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def note_usage(self, state: AccountState) -> None:
        """Take notice of what the account has gathered; call it after each change of its state."""
        if not state.pending:
            self._usage.pop(state.account_id, None)
        elif state.account_id not in self._usage:
            self._usage[state.account_id] = state.pending_since_ms + self._usage_interval_ms

    def note_calendar(self, state: AccountState) -> None:
        """Take notice of the account's next period end; call it when products or periods have changed."""
        due_ms = next_due_ms(state)
        if due_ms is None:
            self._calendar.pop(state.account_id, None)
        elif self._calendar.get(state.account_id) != due_ms:
            self._calendar[state.account_id] = due_ms
            heapq.heappush(self._heap, (due_ms, state.account_id))

    def usage_due(self, now_ms: int, most: int) -> Iterator[str]:
        """Accounts whose usage is to be emitted now, at most `most`; they stay until `note_usage` sees it emitted."""
        due: list[str] = []
        for account_id, due_ms in self._usage.items():
            if due_ms > now_ms or len(due) == most:
                break
            due.append(account_id)
        return iter(due)

    def calendar_due(self, now_ms: int, most: int) -> Iterator[str]:
        """Accounts with a period end at or before `now_ms`, at most `most`, taken off the calendar."""
        while self._heap and self._heap[0][0] <= now_ms and most:
            due_ms, account_id = heapq.heappop(self._heap)
            # A stale entry stays in the heap when an account's due time moves; the dict knows the valid one.
            if self._calendar.get(account_id) == due_ms:
                del self._calendar[account_id]
                most -= 1
                yield account_id

    def next_ms(self) -> int | None:
        """When something is due next, or None. May be early by a stale entry, never late."""
        times = [self._heap[0][0]] if self._heap else []
        times += [next(iter(self._usage.values()))] if self._usage else []
        return min(times, default=None)
