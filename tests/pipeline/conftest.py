"""Where the whole-product tests play: each on the embedded log, and on a real Kafka."""

import pytest

from tests.pipeline.stages import Where


@pytest.fixture(scope="module", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def where(request: pytest.FixtureRequest) -> Where:
    """Both logs, one after the other."""
    return Where() if request.param == "embedded" else Where(request.getfixturevalue("kafka"))
