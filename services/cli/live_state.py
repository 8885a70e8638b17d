"""Asks running workers for the state that they hold, to compare it with the changelog."""

import http.client
from collections.abc import Sequence

import msgspec

from services.policy.service import STATE_PATH

TIMEOUT_S = 30.0

_decode = msgspec.msgpack.Decoder(dict[str, bytes]).decode


def ask_workers(workers: Sequence[str]) -> dict[str, bytes]:
    """The states of all accounts of `workers`, each `host:port` of an operations port, by account id.

    Raises OSError, naming the worker, when one does not answer.
    """
    found: dict[str, bytes] = {}
    for worker in workers:
        found.update(_ask(worker))
    return found


def _ask(worker: str) -> dict[str, bytes]:
    connection = http.client.HTTPConnection(worker, timeout=TIMEOUT_S)
    try:
        connection.request("GET", STATE_PATH)
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
    return _decode(body)
