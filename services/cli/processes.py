"""Wires the policy service and what every command does first with the log."""

from schemas import topics
from services.policy.service import PolicyService
from services.runtime.log import Log
from services.runtime.open_log import open_log
from services.runtime.settings import Settings
from services.runtime.telemetry import configure_logging, new_registry


async def run_policy(settings: Settings) -> None:
    """The policy service until SIGTERM."""
    configure_logging(settings)
    log = open_log(settings)
    await prepare_topics(log, settings)
    await PolicyService(settings, log, new_registry()).run_until_signal()


async def create_topics(settings: Settings) -> list[str]:
    """Create what is missing; one line a topic."""
    log = open_log(settings)
    try:
        await prepare_topics(log, settings)
        return [f"{topic.name}: {await log.partitions_of(topic.name)} partitions" for topic in topics.ALL]
    finally:
        await log.close()


async def prepare_topics(log: Log, settings: Settings) -> None:
    """Reach the log and make sure that every topic is there."""
    await log.start()
    await log.ensure_topics(topics.ALL, partitions=settings.partitions)
