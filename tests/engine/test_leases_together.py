"""Lanes and the owner of a budget together, whatever crashes, comes twice or comes late.

The logs of the machine keep what real ones keep: a lane's requests and its commands stand in their order, anything may
be read again from an earlier place, and a step that crashed before its commit never happened.
"""

import dataclasses

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schemas.catalogue import Campaign
from schemas.command import GrantLease
from schemas.lease import LeaseRequest
from schemas.state import LeaseState
from services.engine.leases import (
    DAY_MS,
    Budget,
    LaneLease,
    Slicing,
    drawn,
    granted,
    held_octets,
    next_kind,
    opened,
    recalled,
    released_octets,
    reply_to,
    requested,
)

BEGIN_MS = 1_772_474_400_000
IDLE_MS = 60_000
LANES = 3


@dataclasses.dataclass
class Lane:
    """One lane: its state as committed, the requests in its partition, the commands that wait for it."""

    lease: LeaseState
    requests: list[LeaseRequest] = dataclasses.field(default_factory=list)
    commands: list[GrantLease] = dataclasses.field(default_factory=list)
    taken: int = 0
    wanted: int = 0


class LanesAndOwner(RuleBasedStateMachine):
    """Time only goes on. Octets are drawn as flows would: never more than the lane holds."""

    @initialize(budget=st.integers(1, 5_000), paced=st.booleans(), least=st.integers(1, 50), most=st.integers(1, 900))
    def begin(self, budget: int, paced: bool, least: int, most: int) -> None:
        self.campaign = Campaign.model_validate(
            {
                "id": "c", "sponsor_id": "s", "valid_from_ms": BEGIN_MS, "valid_until_ms": BEGIN_MS + 5 * DAY_MS,
                "budget": {"octets": budget, "pacing": "even" if paced else "none"},
            }
        )  # fmt: skip
        self.limit = budget
        self.slicing = Slicing(LANES, least, most, retry_ms=5_000)
        self.now_ms = BEGIN_MS
        self.lanes = [Lane(opened("c", BEGIN_MS)) for _ in range(LANES)]
        self.budget = Budget()
        self.known = [LaneLease() for _ in range(LANES)]
        self.read = [0] * LANES
        self.catching_up_to = [0] * LANES
        self.the_database_is_backed_up()

    @rule(number=st.integers(0, LANES - 1), wanted=st.integers(0, 400), crashes=st.booleans())
    def a_lane_works(self, number: int, wanted: int, crashes: bool) -> None:
        """One transaction: the commands that wait, a flow, the requests. A crash leaves what was committed."""
        lane = self.lanes[number]
        lease, taken = lane.lease, lane.taken
        while taken < len(lane.commands):
            lease = granted(lease, lane.commands[taken]) or lease
            taken += 1
        part = min(wanted, held_octets(lease))
        if wanted:
            lease = drawn(lease, part, self.now_ms)
        kind = next_kind(lease, self.campaign, now_ms=self.now_ms, idle_ms=IDLE_MS)
        said = []
        if kind is not None:
            lease, request = requested(lease, kind, partition=number, now_ms=self.now_ms)
            said.append(request)
        if not crashes:
            lane.lease, lane.taken = lease, taken
            lane.requests += said
            lane.wanted += part

    @rule(number=st.integers(0, LANES - 1), most=st.integers(1, 4), crashes=st.booleans())
    def the_owner_works(self, number: int, most: int, crashes: bool) -> None:
        """One transaction over some requests of one lane: all of it is committed, or nothing."""
        budget, known, answers = self.budget, self.known[number], []
        batch = self.lanes[number].requests[self.read[number] : self.read[number] + most]
        for request in batch:
            reply = reply_to(request, budget, known, self.campaign, slicing=self.slicing, now_ms=self.now_ms)
            if reply is None:
                continue
            budget, known = reply.budget, reply.lane
            if reply.octets is not None:
                answers.append(answer(request, reply.octets, known.granted_octets, reply.ask_again_ms))
        if not crashes:
            self.budget, self.known[number] = budget, known
            self.read[number] += len(batch)
            self.lanes[number].commands += answers

    @rule(number=st.integers(0, LANES - 1), back=st.integers(1, 3))
    def requests_are_read_again(self, number: int, back: int) -> None:
        self.read[number] = max(0, self.read[number] - back)

    @rule(number=st.integers(0, LANES - 1), back=st.integers(1, 3))
    def commands_come_twice(self, number: int, back: int) -> None:
        """The relay crashed after publishing a batch, and publishes it again."""
        lane = self.lanes[number]
        lane.commands += lane.commands[-back:]

    @rule(number=st.integers(0, LANES - 1), which=st.integers(0, 30))
    def an_old_command_is_published_again(self, number: int, which: int) -> None:
        """By hand, or from a copy of the topic: out of order."""
        lane = self.lanes[number]
        if lane.commands:
            lane.commands.append(lane.commands[which % len(lane.commands)])

    @rule()
    def the_database_is_backed_up(self) -> None:
        self.backup = self.budget, list(self.known), list(self.read)

    @rule(unpublished=st.integers(0, 2))
    def the_database_goes_back_to_its_backup(self, unpublished: int) -> None:
        """The owner reads its own answers in the log, and then goes on where the backup ends.

        Answers that had not left the outbox since the backup are lost with the database; no lane has heard of them.
        """
        self.budget, known, read = self.backup
        self.known, self.read = list(known), list(read)
        for number, lane in enumerate(self.lanes):
            for _ in range(unpublished):
                if len(lane.commands) > lane.taken and lane.commands[-1].sequence > self.known[number].answered:
                    lane.commands.pop()
            for command in lane.commands:
                self.budget, self.known[number] = recalled(command, self.budget, self.known[number])
            self.catching_up_to[number] = len(lane.requests)

    @rule(pause_ms=st.sampled_from([1, 4_000, 5_000, IDLE_MS, DAY_MS // 2, DAY_MS]))
    def time_passes(self, pause_ms: int) -> None:
        self.now_ms += pause_ms

    @invariant()
    def the_budget_is_never_passed(self) -> None:
        used = sum(lane.lease.used_octets for lane in self.lanes)
        held = sum(held_octets(lane.lease) for lane in self.lanes)
        assert used + held <= min(self.budget.out_octets, released_octets(self.campaign, self.now_ms))
        if all(read >= wanted for read, wanted in zip(self.read, self.catching_up_to, strict=True)):
            # What came back is known again.
            assert self.budget.out_octets <= min(self.limit, released_octets(self.campaign, self.now_ms))

    @invariant()
    def the_owner_counts_what_its_lanes_were_granted(self) -> None:
        assert self.budget.granted_octets == sum(known.granted_octets for known in self.known)
        assert self.budget.returned_octets == sum(known.returned_octets for known in self.known)
        for lane, known in zip(self.lanes, self.known, strict=True):
            assert lane.lease.granted_octets <= known.granted_octets
            assert known.returned_octets <= lane.lease.returned_octets
            assert known.used_octets <= lane.lease.used_octets == lane.wanted
            assert held_octets(lane.lease) >= 0

    def teardown(self) -> None:
        """Nothing is lost for ever: once all have spoken, what nobody used can be granted again, and can be used up."""
        if not hasattr(self, "lanes"):
            return
        self.now_ms = max(self.now_ms, BEGIN_MS + 4 * DAY_MS) + IDLE_MS
        for _ in range(4):
            self.everybody_works()
        assert self.budget.out_octets == sum(lane.lease.used_octets for lane in self.lanes)
        assert all(lane.lease.asked == lane.lease.answered for lane in self.lanes)
        if self.now_ms < BEGIN_MS + 5 * DAY_MS:
            self._spend_the_rest()

    @rule(wanted=st.integers(0, 400))
    def everybody_works(self, wanted: int = 0) -> None:
        """A quiet moment: all that was said is heard."""
        for number, lane in enumerate(self.lanes):
            self.a_lane_works(number, wanted, crashes=False)
            while self.read[number] < len(lane.requests):
                self.the_owner_works(number, 4, crashes=False)
            self.a_lane_works(number, 0, crashes=False)

    def _spend_the_rest(self) -> None:
        for _ in range(self.limit * 3 + 9):
            if sum(lane.lease.used_octets for lane in self.lanes) == self.limit:
                return
            self.everybody_works(wanted=400)
            self.now_ms += 5_000 if self.now_ms < BEGIN_MS + 5 * DAY_MS else 0
        raise AssertionError(f"{self.limit} octets cannot be used up: {self.budget}, {self.lanes}")


def answer(request: LeaseRequest, octets: int, total: int, ask_again_ms: int) -> GrantLease:
    return GrantLease(
        version="1.1", command_id="g", account_id="lane/0", issued_at_ms=request.at_ms, campaign_id="c",
        sequence=request.sequence, octets=octets, granted_octets=total, ask_again_ms=ask_again_ms,
    )  # fmt: skip


class TestLanesAndOwner(LanesAndOwner.TestCase):  # type: ignore[misc,name-defined]
    """Many lives of three lanes and their owner."""

    settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

    def test_no_budget_is_passed_and_no_octet_lost_whatever_happens(self) -> None:
        self.runTest()
