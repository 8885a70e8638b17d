"""A service as a process of its own, started, killed and stopped by a command that watches over it."""

import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Self

from services.runtime.settings import PREFIX, Settings

PR_SET_PDEATHSIG = 1
STOP_TIMEOUT_S = 15.0


class WorkerProcess:
    """One process of `smartpipe policy` or `rating`. It never outlives its parent; its log goes to `log_file`."""

    def __init__(self, process: asyncio.subprocess.Process, log_file: Path) -> None:
        self._process = process
        self.log_file = log_file

    @classmethod
    async def start(cls, settings: Settings, log_file: Path, *, command: str = "policy") -> Self:
        """Start a service with exactly these settings; appends to `log_file`."""
        with log_file.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.cli.main", command,
                env=environment_of(settings), stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                # A terminal sends Ctrl-C to all of its processes; when this one ends, its parent decides.
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )  # fmt: skip
        return cls(process, log_file)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def running(self) -> bool:
        """Whether the process is still there."""
        return self._process.returncode is None

    async def ended(self) -> int:
        """Wait until it has ended, for whatever reason; its exit code."""
        return await self._process.wait()

    async def kill(self) -> None:
        """End it as a power cut would: nothing is flushed, nobody is told."""
        if self.running():
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """Ask it to finish (SIGTERM) and wait; its exit code. Kills it after STOP_TIMEOUT_S."""
        if self.running():
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            await self.kill()
            raise TimeoutError(f"the worker did not stop within {STOP_TIMEOUT_S} s; see {self.log_file}") from None

    def last_words(self, lines: int = 15) -> str:
        """The end of its log, for a message about a worker that ended unasked."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])


def environment_of(settings: Settings) -> dict[str, str]:
    """This process's environment with exactly `settings` as its SMARTPIPE_ variables."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    stated = {PREFIX + name.upper(): str(getattr(settings, name)) for name in Settings.model_fields}
    return {**inherited, **stated}


def _die_with_parent() -> None:
    """Have the kernel end this process when the one that started it is gone, however that ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
