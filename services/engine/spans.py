"""How a flow's octets and its time go together: what pays by time, and what pays by volume, can take turns within it.

A flow's octets are taken to pass evenly over its interval, which lasts `end_ms - start_ms`. Where one payer ends in the
middle, the next begins there, in octets as in time; all is in whole numbers, and nothing is counted twice:

- after t of D milliseconds, `octets * t // D` octets have passed, and all of them after D;
- k octets take up the `ceil(k * D / octets)` milliseconds until they have passed: the one that they end in is theirs.

So a flow in several records, each with its share of the octets, uses the same milliseconds as in one. Which side of a
payer's end a single octet falls on can differ, since each record's octets are cut to whole ones by themselves.
"""

from typing import NamedTuple


class Span(NamedTuple):
    """The octets of a flow, and how many milliseconds they took; 0 for a flow that is a moment.

    Octets that are charged again can be the first ones of a flow: then `flow_octets` and `flow_ms` are all of it, and
    give the pace.
    """

    octets: int
    ms: int
    flow_octets: int = 0
    flow_ms: int = 0

    def first(self, octets: int) -> "Span":
        """The first octets of a flow, which end in the millisecond in which the last of them has passed."""
        return Span(octets, self.ms_for(octets), self.octets, self.ms)

    def octets_after(self, ms: int) -> int:
        """Octets that have passed after so many milliseconds."""
        if ms >= self.ms:
            return self.octets
        return (self.flow_octets or self.octets) * ms // (self.flow_ms or self.ms)

    def ms_for(self, octets: int) -> int:
        """Milliseconds that the first octets take up."""
        return -(-octets * (self.flow_ms or self.ms) // (self.flow_octets or self.octets or 1))

    def part(self, *, from_octets: int, from_ms: int, most_ms: int) -> tuple[int, int]:
        """Milliseconds, at most so many, that a payer by time takes from a place in the flow on, and their octets.

        The place is behind the octets and the milliseconds that were taken before. A part that comes to the flow's end
        takes all that is left, also where that has no time any more.
        """
        start_ms = self.start_ms(from_octets, from_ms)
        ms = min(most_ms, self.ms - start_ms)
        return ms, max(0, self.octets_after(start_ms + ms) - from_octets)

    def start_ms(self, octets: int, ms: int) -> int:
        """Where in the flow's time the next payer begins, after those octets and milliseconds were taken."""
        return max(ms, self.ms_for(octets))
