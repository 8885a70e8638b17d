"""Asks running workers for what they hold: the accounts' states, to compare them with the changelog, and more."""

import http.client
import re
from collections.abc import Sequence

import msgspec

from services.policy.service import STATE_PATH

TIMEOUT_S = 30.0

_decode = msgspec.msgpack.Decoder(dict[str, bytes]).decode
_lanes_in = re.compile(rb"^ott_policy_assigned_lanes (\S+)$", re.MULTILINE).search


def ask_workers(workers: Sequence[str]) -> dict[str, bytes]:
    """The states of all accounts of `workers`, each `host:port` of an operations port, by account id.

    Raises OSError, naming the worker, when one does not answer.
    """
    found: dict[str, bytes] = {}
    for worker in workers:
        found.update(_decode(ask_worker(worker, STATE_PATH)))
    return found


def count_lanes(worker: str) -> int:
    """How many lanes of `worker`, `host:port` of its operations port, are restored and at work; 0 while it is down."""
    try:
        found = _lanes_in(ask_worker(worker, "/metrics"))
    except OSError:
        return 0
    return int(float(found[1])) if found else 0


def ask_worker(worker: str, path: str) -> bytes:
    """What `worker`, `host:port` of an operations port, serves at `path`. Raises OSError, naming the worker."""
    connection = http.client.HTTPConnection(worker, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"worker {worker!r} does not answer: {error}; give the operations port of a policy worker"
        ) from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise OSError(f"worker {worker!r} answers {answer.status}; give the operations port of a policy worker")
    return body
