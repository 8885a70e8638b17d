"""Starting servers for development so that none outlives who started it."""

import atexit
import concurrent.futures
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

STEP_S = 0.02
_PR_SET_PDEATHSIG = 1

# To the kernel the parent is the thread that starts a child, so it has to be one that lasts as long as this process.
_SPAWNER = concurrent.futures.ThreadPoolExecutor(1, "spawner")


class DevServerError(Exception):
    """A development server could not be started; the message says why and what to do."""


class Server:
    """One child process in its own process group, killed with its parent, its output in a file.

    On Linux the kernel kills it even when the parent is killed with -9; elsewhere only an orderly exit does.
    """

    def __init__(self, command: Sequence[str], *, output: Path, stop_signal: int, user: str | None = None) -> None:
        self._stop_signal = stop_signal
        self._output_path = output
        self._output: IO[bytes] = output.open("ab")
        parent = os.getpid()
        self._process = _SPAWNER.submit(
            subprocess.Popen,
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user,
            preexec_fn=(lambda: _die_with(parent)) if sys.platform == "linux" else None,
        ).result()
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool], *, deadline_s: float, what: str) -> None:
        """Return once `ready`. Raises DevServerError with the tail of the output if it ends or takes too long."""
        ends_at = time.monotonic() + deadline_s
        while not ready():
            if self._process.poll() is not None:
                raise DevServerError(f"{what} ended with code {self._process.returncode}:\n{self._tail()}")
            if time.monotonic() > ends_at:
                raise DevServerError(f"{what} did not serve within {deadline_s:g} s:\n{self._tail()}")
            time.sleep(STEP_S)

    def wait(self) -> int:
        """Wait until it ends; its exit code."""
        return self._process.wait()

    def stop(self, *, deadline_s: float) -> None:
        """Ask it to end, and kill it after the deadline."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self._ended()

    def kill(self) -> None:
        """End it and all its children at once."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._ended()

    def _ended(self) -> None:
        atexit.unregister(self.kill)
        self._output.close()

    def _tail(self) -> str:
        return "\n".join(self._output_path.read_text(errors="replace").splitlines()[-20:])


def new_folder(prefix: str) -> Path:
    """A temporary folder that is removed when this process ends in an orderly way."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # The parent died before the kernel was told.
        os._exit(1)
