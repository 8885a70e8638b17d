"""One process, and one thread, at a time: for the few steps on a file that its own locks do not make wait."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

__all__ = ["alone_at"]


@contextlib.contextmanager
def alone_at(path: Path) -> Iterator[None]:
    """Hold `path`, an empty file that is made when missing, and wait for whoever holds it. A dead holder lets go."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
