"""Which log: the one place that knows both adapters."""

from services.runtime.log import Log
from services.runtime.settings import Settings


def open_log(settings: Settings) -> Log:
    """The log that `settings.log` names, not started yet."""
    # Imported here, so that the embedded log needs no Kafka client and Kafka no SQLite.
    if settings.log == "kafka":
        from services.runtime.kafka_log import KafkaLog  # noqa: PLC0415

        return KafkaLog(settings)
    from services.runtime.embedded_log import EmbeddedLog  # noqa: PLC0415

    return EmbeddedLog(settings)
