"""Choosing a log, and what either says when it cannot be reached. No broker runs here."""

import ssl
from pathlib import Path

import pytest

from services.runtime.embedded_log import EmbeddedLog
from services.runtime.kafka_log import KafkaLog, _client_options
from services.runtime.log import LogError, LogUnavailable
from services.runtime.open_log import open_log
from services.runtime.ports import free_port
from services.runtime.settings import Settings


def test_the_setting_chooses_the_log() -> None:
    assert isinstance(open_log(Settings(log="embedded")), EmbeddedLog)
    assert isinstance(open_log(Settings(log="kafka")), KafkaLog)


@pytest.mark.parametrize("kind", ["embedded", "kafka"])
async def test_a_log_that_was_not_started_says_so(kind: str, tmp_path: Path) -> None:
    log = open_log(Settings.model_validate({"log": kind, "data_dir": str(tmp_path)}))
    with pytest.raises(LogError, match="start"):
        await log.reader("topic")
    await log.close()


async def test_without_a_broker_starting_ends_after_the_outage_time() -> None:
    address = f"127.0.0.1:{free_port()}"
    log = open_log(Settings(log="kafka", kafka_bootstrap=address, outage_timeout_ms=300))
    with pytest.raises(LogUnavailable, match=address.split(":")[1]):
        await log.start()
    await log.close()


async def test_a_folder_that_cannot_be_written_is_an_outage_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    log = open_log(Settings(data_dir=str(tmp_path / "file"), outage_timeout_ms=300))
    with pytest.raises(LogUnavailable, match="file"):
        await log.start()


def test_plain_settings_ask_for_no_security() -> None:
    options = _client_options(Settings(kafka_bootstrap="a:1,b:2"))
    assert options["bootstrap_servers"] == ["a:1", "b:2"]
    assert options["security_protocol"] == "PLAINTEXT"
    assert "ssl_context" not in options
    assert "sasl_mechanism" not in options


def test_tls_and_sasl_come_from_the_settings() -> None:
    options = _client_options(
        Settings(
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_mechanism="SCRAM-SHA-256",
            kafka_sasl_username="smartpipe",
            kafka_sasl_password="secret",
            instance_id="pod-3",
        )
    )
    assert options["security_protocol"] == "SASL_SSL"
    assert options["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert options["ssl_context"].check_hostname
    assert (options["sasl_mechanism"], options["sasl_plain_username"]) == ("SCRAM-SHA-256", "smartpipe")
    assert options["sasl_plain_password"] == "secret"
    assert options["client_id"] == "smartpipe-pod-3"
