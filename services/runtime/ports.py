"""Ports for servers that have to be told theirs before they start."""

import contextlib
import itertools
import os
import socket

__all__ = ["free_port"]

FIRST_PORT = 20_000
PORTS = 8_000
"""All below those that the system gives to whoever connects, or asks for any port at all: one of these could be taken
between the moment in which it is found free and the moment in which the server listens."""

# Two processes begin at different places, and none gives a port out twice until all have had their turn.
_turns = itertools.count(os.getpid() * 101)


def free_port(wanted: int = 0) -> int:
    """A port of the loopback address that nobody listens on at the moment: `wanted` if that one is free, else any.

    Raises OSError when there is none.
    """
    others = (FIRST_PORT + turn % PORTS for turn in itertools.islice(_turns, PORTS))
    for port in itertools.chain((wanted,) if wanted else (), others):
        with contextlib.suppress(OSError), socket.socket() as probe:
            # As the servers do: a port whose last connections are still being forgotten counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1} is free; end a program that listens there")
