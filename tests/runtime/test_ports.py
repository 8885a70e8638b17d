"""Ports that are told to servers: free, and given out once."""

import socket

import pytest

from services.runtime import ports
from services.runtime.ports import FIRST_PORT, PORTS, free_port


def test_no_port_is_given_out_twice() -> None:
    found = [free_port() for _ in range(200)]
    assert len(set(found)) == 200
    assert all(FIRST_PORT <= port < FIRST_PORT + PORTS for port in found)


def test_a_port_that_somebody_listens_on_is_passed_over() -> None:
    with socket.socket() as listening:
        port = free_port()
        listening.bind(("127.0.0.1", port))
        listening.listen()
        assert port not in {free_port() for _ in range(200)}


def test_a_port_that_is_wanted_is_given_when_it_is_free_and_another_when_it_is_not() -> None:
    wanted = free_port()
    with socket.create_server(("127.0.0.1", wanted)):
        assert free_port(wanted) not in {0, wanted}
    assert free_port(wanted) == wanted


def test_without_a_free_port_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", free_port()))
        listening.listen()
        monkeypatch.setattr(ports, "FIRST_PORT", listening.getsockname()[1])
        monkeypatch.setattr(ports, "PORTS", 1)
        with pytest.raises(OSError, match="no port from"):
            free_port()
