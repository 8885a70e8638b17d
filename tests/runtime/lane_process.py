"""A worker process for the tests: echoes, tells what happens on its standard output, ends in good order on SIGTERM.

Its one argument is JSON: settings, group, source, output, and whether the first batch is held until a line comes in.
"""

import asyncio
import json
import signal
import sys

from services.runtime.log import Lane, LogError
from services.runtime.open_log import open_log
from services.runtime.settings import Settings
from tests.runtime.lane_tools import Echo


class TellingEcho(Echo):
    """Says when it takes its first batch, and what becomes of it."""

    def __init__(self, output: str, *, hold: bool) -> None:
        super().__init__(output, max_records=200)
        self._go = asyncio.Event()
        self._told = False
        if not hold:
            self._go.set()

    async def __call__(self, lane: Lane) -> None:
        try:
            await super().__call__(lane)
        except LogError as error:
            say(f"{type(error).__name__}: {error}")
            raise

    async def between(self, lane: Lane) -> None:
        if not self._told:
            self._told = True
            say("took")
        await self._go.wait()

    def go(self) -> None:
        sys.stdin.readline()
        self._go.set()


def say(text: str) -> None:
    print(text, flush=True)


async def main(job: dict[str, object]) -> None:
    log = open_log(Settings.model_validate(job["settings"]))
    await log.start()
    host = log.lanes(group=str(job["group"]), inputs=[str(job["source"])])
    echo = TellingEcho(str(job["output"]), hold=bool(job["hold"]))
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []
    loop.add_signal_handler(signal.SIGTERM, lambda: stopping.append(asyncio.create_task(host.stop())))
    loop.add_reader(sys.stdin, echo.go)
    await host.run(echo)
    await asyncio.gather(*stopping)
    await log.close()
    say(f"ended, {sum(echo.committed.values())} committed, {sum((echo.taken - echo.committed).values())} not")


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
