"""Books that are right, and how tests have them reconciled."""

import asyncio
from collections.abc import Callable

from schemas.command import EmitUsage
from services.cli.reconcile import Report
from services.cli.verify import verify
from tests.cli.fakes import FakeLedger
from tests.cli.world import World


def busy_world() -> World:
    """Three accounts, every treatment, an exhausted bucket, refused records, told and gathered usage."""
    world = World()
    alice, bob = world.subscribe("alice"), world.subscribe("bob", payment="prepaid")
    carol = world.subscribe("carol")
    world.credit(bob, "5")
    for partition in range(world.partitions):
        world.lease(partition, 3_000)
    world.correct(alice, world.flow(alice, 10))
    for account in (alice, bob, carol):
        world.flow(account, 300)
        world.flow(account, 100, "free")
        world.flow(account, 50, "blocked")
        world.flow(account, 70, "sponsored", sampling_rate=10)
        world.flow(account, 60, "not_charged")
        world.flow(account, 900)
        world.refuse(account, "invalid_field")
        world.refuse(account, "duplicate", record_id="r-1")
    for partition in range(world.partitions):
        world.give_back(partition, 500)
    world.emit(alice)
    world.command(bob, EmitUsage)
    world.flow(alice, 500)
    world.flow(bob, 10)
    return world


def reconcile(world: World, ledger: FakeLedger | None = None, *, strict: bool = False) -> Report:
    return asyncio.run(verify(world.log, ledger or world.ledger(), live_state=world.live, strict=strict, settle_s=0))


def usage_of(account: str, kind: str = "usage") -> Callable[[dict[str, object]], bool]:
    """Picks rated usage of an account."""
    return lambda fields: fields["account_id"] == account and fields["kind"] == kind
