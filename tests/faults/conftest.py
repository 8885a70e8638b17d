"""Faults are caused on a real Kafka: only there do members, sessions and open transactions outlive a process."""

import pytest

from tests.pipeline.stages import Where


@pytest.fixture
def where(kafka: str) -> Where:
    """The session's Kafka."""
    return Where(kafka)
