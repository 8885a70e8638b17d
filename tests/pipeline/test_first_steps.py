"""The commands of the README, one after the other, as somebody types them who does not want the demo."""

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.pipeline.test_demo import DEADLINE_S, ROOT, environment

README = (ROOT / "README.md").read_text()
PORTS = {f"SMARTPIPE_{name}_PORT": "0" for name in ("HTTP", "POLICY_OPS", "RATING_OPS")}
RECORDS = 200


def test_the_first_customer_of_the_readme_is_charged(tmp_path: Path) -> None:
    orders = re.search(r"<<'E'\n(.*?)\nE\n", README, re.DOTALL)
    assert orders is not None, "the README shows no orders any more"
    smartpipe(tmp_path, "topics")
    smartpipe(tmp_path, "migrate")
    smartpipe(tmp_path, "catalogue", "publish", "--yes")
    assert b"3 commands stored" in smartpipe(tmp_path, "submit", feed=orders[1].encode())
    flows = smartpipe(tmp_path, "flows", "generate", "--subscribers", "1", "--records", str(RECORDS))
    with running(tmp_path, "rating"), running(tmp_path, "policy"):
        smartpipe(tmp_path, "flows", "publish", feed=flows)
        report = json.loads(smartpipe(tmp_path, "verify", "--json", "--strict", "--wait", "60"))
    assert report["ok"]
    assert report["counts"]["flows"] == RECORDS
    assert report["counts"]["decisions"] > 0.9 * RECORDS, "the customer of the README is not who the traffic is of"


def smartpipe(folder: Path, *arguments: str, feed: bytes | None = None) -> bytes:
    """What a command that ends by itself prints."""
    done = subprocess.run(
        command(*arguments), input=feed, capture_output=True, check=False, timeout=DEADLINE_S, cwd=folder,
        env={**environment(), **PORTS},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout


@contextlib.contextmanager
def running(folder: Path, service: str) -> Iterator[None]:
    """A service, up until it is asked to end, which it does without complaint."""
    with (folder / f"{service}.log").open("w+b") as output:
        process = subprocess.Popen(
            command(service), stdout=output, stderr=output, cwd=folder, env={**environment(), **PORTS}
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(DEADLINE_S)
    assert code == 0, (folder / f"{service}.log").read_text()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "services.cli.main", *arguments]
