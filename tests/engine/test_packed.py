"""An account at hand: packed where a common flow does not look. Every decision of `World` is also made from one."""

import msgspec

from schemas.state import AccountState
from schemas.topics import FLOWS
from services.engine.decide import decide
from services.engine.outcome import Position
from services.engine.packed import PackedAccount, unpacked
from tests.engine.world import PARTITION, World, catalogue, classification, flow_record, packed

GENERAL = {"id": "plan", "allowances": [{"id": "data", "octets": "1 GB"}]}


def test_a_packed_account_has_the_places_of_a_whole_one() -> None:
    assert PackedAccount.__struct_fields__ == AccountState.__struct_fields__


def test_a_whole_draw_leaves_the_account_packed_and_the_end_of_a_bucket_unpacks_it() -> None:
    world = World(catalogue(GENERAL))
    product_id = world.activate("plan")
    assert world.account is not None
    at_hand = packed(world.account)
    assert isinstance(at_hand.products, msgspec.Raw)
    for volume, whole in ((10**6, False), (2 * 10**9, True)):
        flow, seen = flow_record(volume, at_ms=world.now_ms), classification("youtube")
        at = Position(FLOWS, PARTITION, volume)
        after = decide(flow, seen, at_hand, world.tariff, at=at, now_ms=world.now_ms).account
        assert isinstance(after, PackedAccount) != whole
        assert unpacked(after).products[0].product_id == product_id


def test_a_whole_account_is_given_back_as_it_is() -> None:
    world = World(catalogue(GENERAL))
    world.activate("plan")
    assert world.account is not None
    assert unpacked(world.account) is world.account
    assert unpacked(packed(world.account)) == world.account
