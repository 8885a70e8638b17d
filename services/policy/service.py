"""The policy service: wires log, catalogue, lanes and operations port, in reading order."""

import asyncio
import ctypes
import gc
import signal
from collections.abc import Mapping

import msgspec

from schemas.topics import COMMANDS, FLOWS
from services.engine.unknowns import UnknownsReport
from services.policy.books import BookKeeper, Books
from services.policy.lane import LaneKeeper
from services.policy.metrics import PolicyMetrics
from services.runtime.log import LaneHost, Log
from services.runtime.settings import Settings
from services.runtime.tasks import first_of
from services.runtime.telemetry import Download, Health, HttpServer, OpsApp, Registry, events, serve_ops

STUCK_AFTER_S = 60.0
"""A fetch loop that has not gone round for so long is stuck: twice the longest wait for a lane to make room."""

STATE_PATH = "/state"
"""On the operations port: a MessagePack map of account id to the account's state as in the changelog. For `verify`."""

UNKNOWNS_PATH = "/unknowns"
"""On the operations port: an UnknownsReport in JSON, the largest unlisted names of this worker's lanes."""

COLLECT_EVERY_S = 600.0

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameter numbers of glibc's mallopt(3)."""

KEPT_BUFFER_OCTETS = 32 * 1024 * 1024
KEPT_FREE_OCTETS = 256 * 1024 * 1024

_events = events("policy.service")


class PolicyService:
    """Classifies, tariffs and charges flow records. Inert until `start`."""

    def __init__(self, settings: Settings, log: Log, registry: Registry) -> None:
        self._settings = settings
        self._log = log
        self._registry = registry
        self._metrics = PolicyMetrics(registry)
        self._host: LaneHost | None = None
        self._lanes: LaneKeeper | None = None
        self._keeper = BookKeeper(
            log,
            name_cache_entries=settings.name_cache_entries,
            on_change=self._on_books,
            on_refused=lambda reason: _events.error("catalogue_refused", detail=reason),
        )
        self._metrics.catalogue_refused.set_function(lambda: self._keeper.refused() is not None)
        self._tasks: list[asyncio.Task[None]] = []
        self._ops: HttpServer | None = None

    @property
    def ops_port(self) -> int:
        """Where metrics and health are served; known after `start`."""
        if self._ops is None:
            raise RuntimeError("the operations port is known after start()")
        return self._ops.port

    async def start(self) -> None:
        """Reach the log, serve the operations port, follow the catalogue, join the group."""
        self._ops = await serve_ops(self._ops_app(), self._settings.ops_host, self._settings.policy_ops_port)
        await self._log.start()
        partitions = await self._log.partitions_of(FLOWS)
        self._lanes = LaneKeeper(self._settings, self._keeper, self._metrics, partitions=partitions)
        # Commands come before flows: a subscription must be there when the traffic that it pays for arrives.
        self._host = self._log.lanes(group=self._settings.group, inputs=(COMMANDS, FLOWS))
        self._tasks = [
            asyncio.create_task(_collect_garbage(), name="garbage"),
            asyncio.create_task(self._keeper.follow(), name="catalogue"),
            asyncio.create_task(self._host.run(self._lanes.serve), name="lanes"),
            self._ops.task,
        ]
        _events.info("started", group=self._settings.group, partitions=partitions, ops_port=self.ops_port)

    async def wait(self) -> None:
        """Return when a part of the service ends by itself; raises what ended it."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise RuntimeError(f"{', '.join(task.get_name() for task in done)} ended unasked")

    async def stop(self) -> None:
        """Finish the batches in flight, leave the group, close the ports: within the drain time."""
        if self._host is not None:
            await self._host.stop()
        own = [task for task in self._tasks if self._ops is None or task is not self._ops.task]
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)
        if self._ops is not None:
            await self._ops.stop()
        await self._log.close()
        _events.info("stopped")

    async def run_until_signal(self) -> None:
        """Start, serve until SIGTERM or SIGINT, stop. Raises what broke the service, after stopping it."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        _keep_freed_memory()
        try:
            await self.start()
            await first_of(stopping.wait(), self.wait())
        finally:
            await self.stop()

    def _ops_app(self) -> OpsApp:
        return OpsApp(
            registry=self._registry,
            ready=self._ready,
            live=self._live,
            downloads={
                STATE_PATH: Download("application/msgpack", self._live_state),
                UNKNOWNS_PATH: Download("application/json", self._unknowns),
            },
        )

    def _live_state(self) -> bytes:
        return msgspec.msgpack.encode(self._lanes.live_state() if self._lanes is not None else {})

    def _unknowns(self) -> bytes:
        return msgspec.json.encode(self._lanes.unknowns() if self._lanes is not None else UnknownsReport())

    def _ready(self) -> Mapping[str, Health]:
        joined = self._host is not None and self._host.joined()
        # What is assigned counts, not what is up: a lane that is being opened is not up, and not ready either.
        owned = self._host.assigned_partitions() if self._host is not None else frozenset()
        restoring = sorted(owned - self._lanes.restored_partitions()) if self._lanes is not None else []
        return {
            "catalogue": self._catalogue_health(),
            "group": Health(joined, f"owns {sorted(owned)}" if joined else "waiting for an assignment"),
            "lanes": Health(not restoring, f"restoring {restoring}" if restoring else "all restored"),
        }

    def _live(self) -> Mapping[str, Health]:
        age_s = self._host.last_poll_age_s() if self._host is not None else 0.0
        return {"fetch_loop": Health(age_s < STUCK_AFTER_S, f"last round {age_s:.1f} s ago")}

    def _catalogue_health(self) -> Health:
        loaded, refused = self._keeper.loaded(), self._keeper.refused()
        present = f"{self._keeper.current.version} is in force" if loaded else "waiting for a version"
        return Health(loaded, present if refused is None else f"{present}; refused: {refused}")

    def _on_books(self, books: Books, at_s: float) -> None:
        self._metrics.catalogue_loaded.set(at_s)
        _events.info("catalogue_effective", version=books.version)


async def _collect_garbage() -> None:
    """Look for cycles at set times instead of every so many allocations.

    States are immutable and free of cycles, so reference counts free them; a collector that runs on its own walks
    thousands of them each time, out of the processor's caches, for nothing. What libraries leave in cycles is little,
    and a rare full round finds it.
    """
    gc.disable()
    try:
        while True:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            await asyncio.sleep(COLLECT_EVERY_S)
    finally:
        gc.unfreeze()
        gc.enable()


def _keep_freed_memory() -> None:
    """Have the C library keep the batch buffers that are freed after each transaction for the next one.

    By default it gives them back to the system at once, and a page fault for every 4 KiB of every transaction costs as
    much as deciding the records in it. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, KEPT_BUFFER_OCTETS)
    mallopt(M_TRIM_THRESHOLD, KEPT_FREE_OCTETS)
