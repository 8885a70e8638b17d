"""Several workers in one group, each a process with an operations port of its own."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from services.cli.live_state import ask_workers, count_lanes
from services.cli.stage import SETTLE_DEADLINE_S, Stage
from services.cli.verify import Survey, survey
from services.cli.worker_process import WorkerProcess
from services.runtime.ports import free_port
from tests.waiting import wait_until_async

DEADLINE_S = 120.0


class Health(NamedTuple):
    """What an operations port says on one of its health paths."""

    status: int
    checks: dict[str, dict[str, Any]]


class Member:
    """A worker and where it can be asked."""

    def __init__(self, process: WorkerProcess, port: int) -> None:
        self.process = process
        self.address = f"127.0.0.1:{port}"

    async def lanes(self) -> int:
        """Lanes that are restored and at work; 0 while nobody answers."""
        return await asyncio.to_thread(count_lanes, self.address)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; 0 if there are none."""
        _, body = await asyncio.to_thread(_get, self.address, "/metrics")
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        found = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", body, re.MULTILINE)
        return sum(float(value) for shown, value in found if all(label in shown for label in wanted))

    async def health(self, path: str = "/healthz/ready") -> Health | None:
        """What a health path answers; None while nobody does."""
        try:
            status, body = await asyncio.to_thread(_get, self.address, path)
        except (OSError, http.client.HTTPException):
            return None
        return Health(status, json.loads(body)["checks"])

    async def is_ready(self) -> bool:
        """Whether it may be counted on."""
        found = await self.health()
        return found is not None and found.status == http.client.OK

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.process.running():
            os.kill(self.process.pid, number)

    def freeze(self) -> None:
        """Stop it in the middle of whatever it does; it hears nothing and notices nothing."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if no time had passed."""
        self.send(signal.SIGCONT)


class Team:
    """The workers of a stage; made by `team_of`."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        assert stage.worker is not None
        self.members = [Member(stage.worker, stage.settings.policy_ops_port)]

    async def hire(self) -> Member:
        """Start one more worker."""
        port, number = free_port(), len(self.members)
        settings = self.stage.settings.model_copy(update={"policy_ops_port": port})
        log_file = Path(settings.data_dir) / f"policy-{number}-{port}.log"
        member = Member(await WorkerProcess.start(settings, log_file), port)
        self.members.append(member)
        self._count_on(member)
        return member

    async def kill(self, member: Member) -> None:
        """End a worker without a word."""
        self.members.remove(member)
        # Whoever waits for decisions from here on counts on somebody who is there.
        self._count_on(self.members[-1] if self.members else None)
        await member.process.kill()

    async def until_lanes(self, *wanted: int) -> None:
        """Wait until the members have so many lanes at work, in any order."""

        async def shared() -> bool:
            for member in self.members:
                assert member.process.running(), member.process.last_words()
            return sorted([await member.lanes() for member in self.members]) == sorted(wanted)

        await wait_until_async(shared, DEADLINE_S, f"lanes to be shared {wanted}")

    async def survey(self) -> Survey:
        """Reconcile, with what all members hold; what two members hold both is wrong already."""
        addresses = [member.address for member in self.members]
        held = [set(await asyncio.to_thread(ask_workers, [address])) for address in addresses]
        assert sum(map(len, held)) == len(set().union(*held)), "two workers hold the same account"
        return await survey(
            self.stage.log, self.stage.ledger, live_state=lambda: ask_workers(addresses), strict=True,
            wait_s=SETTLE_DEADLINE_S,
        )  # fmt: skip

    def _count_on(self, member: Member | None) -> None:
        self.stage.worker = member.process if member else None


@contextlib.asynccontextmanager
async def team_of(stage: Stage) -> AsyncIterator[Team]:
    """The stage's worker and all that are hired; whoever is still there at the end is stopped."""
    team = Team(stage)
    try:
        yield team
    finally:
        for member in team.members:
            member.thaw()
            await member.process.stop()
        stage.worker = None


def _get(address: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
