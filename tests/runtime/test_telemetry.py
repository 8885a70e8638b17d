"""The operations port and the log events: what probes, Prometheus and people read."""

import asyncio
import io
import json
import logging
import socket

import httpx
import pytest
from prometheus_client import Counter

from services.runtime.settings import Settings
from services.runtime.telemetry import (
    Download,
    Health,
    OpsApp,
    configure_logging,
    events,
    new_registry,
    run_checks,
    serve_http,
    serve_ops,
)


@pytest.fixture
def written():
    """Log events go to this stream; the root logger is put back as it was."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    stream = io.StringIO()
    yield stream
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    logging.captureWarnings(False)


async def _get(port: int, path: str, method: str = "GET") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.request(method, f"http://127.0.0.1:{port}{path}")


async def test_ready_is_green_while_every_check_is_well_and_red_when_one_fails():
    state = {"database": Health(ok=True, detail="answers")}
    ops = await serve_ops(OpsApp(registry=new_registry(), ready=lambda: state), "127.0.0.1", 0)
    try:
        green = await _get(ops.port, "/healthz/ready")
        state["log"] = Health(ok=False, detail="no broker at 127.0.0.1:9092")
        red = await _get(ops.port, "/healthz/ready")
    finally:
        await ops.stop()
    assert (green.status_code, green.json()["status"]) == (200, "ok")
    assert red.status_code == 503
    assert red.json() == {
        "status": "failed",
        "checks": {
            "database": {"ok": True, "detail": "answers"},
            "log": {"ok": False, "detail": "no broker at 127.0.0.1:9092"},
        },
    }


async def test_metrics_serves_the_registry_that_it_was_given():
    registry = new_registry()
    Counter("ott_test_things", "Things.", ["kind"], registry=registry).labels("round").inc(3)
    ops = await serve_ops(OpsApp(registry=registry, ready=dict), "127.0.0.1", 0)
    try:
        answer = await _get(ops.port, "/metrics")
    finally:
        await ops.stop()
    assert 'ott_test_things_total{kind="round"} 3.0' in answer.text
    assert "process_cpu_seconds_total" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/healthz/live", 200), ("HEAD", "/healthz/ready", 200), ("GET", "/", 404), ("POST", "/metrics", 405)],
)
async def test_the_operations_port_serves_its_three_paths_and_nothing_else(method, path, status):
    ops = await serve_ops(OpsApp(registry=new_registry(), ready=dict), "127.0.0.1", 0)
    try:
        assert (await _get(ops.port, path, method)).status_code == status
    finally:
        await ops.stop()


async def test_a_download_is_made_when_asked_for_and_says_what_it_is():
    made = []

    def make() -> bytes:
        made.append(len(made))
        return b'{"made":%d}' % len(made)

    app = OpsApp(registry=new_registry(), ready=dict, downloads={"/things": Download("application/json", make)})
    ops = await serve_ops(app, "127.0.0.1", 0)
    try:
        answers = [await _get(ops.port, path, method) for method, path in (("GET", "/things"), ("HEAD", "/things"))]
        lost = await _get(ops.port, "/thing")
    finally:
        await ops.stop()
    assert [(answer.status_code, answer.headers["content-type"]) for answer in answers] == [
        (200, "application/json")
    ] * 2
    assert (answers[0].json(), answers[1].content) == ({"made": 1}, b"")
    assert (lost.status_code, "/things" in lost.json()["detail"]) == (404, True)


async def test_a_check_that_raises_is_red_and_its_cause_is_logged(written):
    configure_logging(Settings(), written)

    def broken():
        raise RuntimeError("secret dsn")

    found = await run_checks(broken)
    assert found == {"checks": Health(ok=False, detail="RuntimeError; see the log")}
    assert "secret dsn" in written.getvalue()


async def test_a_check_that_never_answers_is_red(monkeypatch):
    monkeypatch.setattr("services.runtime.telemetry.CHECK_TIMEOUT_S", 0.01)

    async def silent():
        await asyncio.Event().wait()

    found = await run_checks(silent)
    assert not found["checks"].ok


async def test_a_taken_port_is_refused_with_its_address_and_the_next_step():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"operations port cannot listen on 127.0.0.1:{port}.*set another port"):
            await serve_http(
                OpsApp(registry=new_registry(), ready=dict), host="127.0.0.1", port=port, name="operations"
            )


async def test_a_stopped_port_no_longer_listens():
    ops = await serve_ops(OpsApp(registry=new_registry(), ready=dict), "127.0.0.1", 0)
    await ops.stop()
    with pytest.raises(httpx.ConnectError):
        await _get(ops.port, "/healthz/live")


def test_an_event_is_one_json_object_with_its_fields(written):
    configure_logging(Settings(log_format="json"), written)
    events("rating.ledger").info("booked", rows=12, account_id="a-1\r\nforged")
    line = json.loads(written.getvalue())
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "info",
        "component": "rating.ledger",
        "event": "booked",
        "rows": 12,
        "account_id": "a-1\r\nforged",
    }


def test_a_field_cannot_forge_a_second_line(written):
    configure_logging(Settings(), written)
    events("rating.ledger").warning("refused", value="x\nerror rating forged", empty="", plain="ok")
    text = written.getvalue()
    assert text.count("\n") == 1
    assert 'warning rating.ledger refused value="x\\nerror rating forged" empty="" plain=ok' in text


def test_events_below_the_level_are_not_written_and_libraries_speak_from_warning_up(written):
    configure_logging(Settings(log_level="info"), written)
    events("rating").debug("hidden")
    logging.getLogger("uvicorn.error").info("hidden too")
    logging.getLogger("uvicorn.error").warning("shown")
    assert [line.split(" ", 1)[1] for line in written.getvalue().splitlines()] == ["warning uvicorn.error shown"]


def test_an_error_carries_its_traceback(written):
    configure_logging(Settings(log_format="json"), written)
    try:
        raise ValueError("octets is -1")
    except ValueError as error:
        events("policy").error("lane_died", error, partition=3)
    line = json.loads(written.getvalue())
    assert line["partition"] == 3
    assert "ValueError: octets is -1" in line["traceback"]


def test_setting_up_twice_writes_each_event_once(written):
    configure_logging(Settings(), io.StringIO())
    configure_logging(Settings(), written)
    events("rating").info("started")
    assert written.getvalue().count("started") == 1
