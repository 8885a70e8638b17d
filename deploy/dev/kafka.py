"""A development Kafka: the real Apache Kafka, assembled from its Maven artifacts, in KRaft mode on loopback ports.

    python -m deploy.dev.kafka [--port 9092] [--data FOLDER] [--set NAME=VALUE ...]

runs it until Ctrl-C. Tests and benchmarks use `DevKafka`. The jars are kept in $SMARTPIPE_CACHE, ~/.cache/smartpipe by
default; assembling them takes Maven and a network once, running takes Java 17 or newer.
"""

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from deploy.dev.processes import DevServerError, Server, new_folder
from services.runtime.ports import free_port

HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
LEAST_JAVA = 17
START_DEADLINE_S = 180.0
STOP_DEADLINE_S = 15.0
START_ATTEMPTS = 3


class DevKafka:
    """One broker and controller in one process. `start` and `stop` may alternate; port and data stay the same."""

    def __init__(self, *, port: int = 0, data: Path | None = None, properties: Mapping[str, str] | None = None) -> None:
        self._fixed_port = port
        self._ports = (port, 0)
        self._folder = data
        self._properties = dict(properties or {})
        self._server: Server | None = None

    @property
    def bootstrap(self) -> str:
        """What clients connect to, `host:port`."""
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def pid(self) -> int:
        """The broker's process id."""
        if self._server is None:
            raise DevServerError("the development Kafka is not running")
        return self._server.pid

    def start(self) -> None:
        """Start and wait until it serves. Raises DevServerError."""
        libs = assemble()
        folder = self._folder = self._folder or new_folder("smartpipe-kafka-")
        for attempt in range(START_ATTEMPTS):
            self._ports = self._ports if all(self._ports) else (self._fixed_port or free_port(), free_port())
            _configure(folder, self._ports, self._properties)
            _format(libs, folder)
            try:
                self._serve(libs, folder)
            except DevServerError:
                # Somebody may have taken the port in between.
                if attempt == START_ATTEMPTS - 1 or self._fixed_port:
                    raise
                self._ports = (0, 0)
            else:
                return

    def stop(self) -> None:
        """Stop in good order, or hard after a while; the data stays."""
        if self._server is not None:
            self._server.stop(deadline_s=STOP_DEADLINE_S)
            self._server = None

    def kill(self) -> None:
        """Stop as a power cut does."""
        if self._server is not None:
            self._server.kill()
            self._server = None

    def wait(self) -> int:
        """Wait until the broker ends by itself; its exit code."""
        return self._server.wait() if self._server else 0

    def _serve(self, libs: Path, folder: Path) -> None:
        logging = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
        memory = ("-Xms256m", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")
        command = [_java(), *memory, logging, "-cp", f"{libs}/*", "kafka.Kafka", str(folder / "server.properties")]
        self._server = Server(command, output=folder / "server.log", stop_signal=signal.SIGTERM)
        try:
            self._server.wait_until(
                lambda: _serves(self._ports[0]), deadline_s=START_DEADLINE_S, what="the development Kafka"
            )
        except DevServerError:
            self.kill()
            raise


def missing() -> str | None:
    """What this machine lacks for a development Kafka, in one sentence, or None."""
    if _java_version() < LEAST_JAVA:
        return f"no Java {LEAST_JAVA} or newer on PATH"
    if not _libs().exists() and shutil.which("mvn") is None:
        return "no Maven (mvn) on PATH"
    return None


def version() -> str:
    """The version of Apache Kafka that is used."""
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", POM.read_text())
    if found is None:
        raise DevServerError(f"{POM} names no kafka.version")
    return found[1]


def assemble() -> Path:
    """The folder with the broker's jars, filled from Maven if it is not there yet. Raises DevServerError."""
    libs = _libs()
    if libs.exists():
        return libs
    lack = missing()
    if lack is not None:
        raise DevServerError(f"{lack}; install it, or point `kafka_bootstrap` at a Kafka that runs elsewhere")
    libs.parent.mkdir(parents=True, exist_ok=True)
    with libs.with_suffix(".lock").open("w") as lock:
        # Two test sessions may want it at once; the second finds the work done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not libs.exists():
            _copy_jars(libs)
    return libs


def main() -> None:
    """Run in the foreground until Ctrl-C or SIGTERM."""
    arguments = _arguments()
    broker = DevKafka(port=arguments.port, data=arguments.data, properties=dict(arguments.set))
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_, _interrupt)
    try:
        _check_free(arguments.port)
        _say(f"Starting Apache Kafka {version()} ...")
        broker.start()
        _say(f"Kafka serves at {broker.bootstrap}; Ctrl-C stops it")
        code = broker.wait()
        raise DevServerError(f"the broker has ended by itself, with code {code}")
    except KeyboardInterrupt:
        _say("Stopping ...")
    except DevServerError as error:
        sys.exit(f"error: {error}")
    finally:
        # A second Ctrl-C must not leave the broker behind half stopped.
        for signal_ in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_, signal.SIG_IGN)
        broker.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.dev.kafka", description="Run a development Kafka.")
    parser.add_argument("--port", type=int, default=9092, help="port of the broker (default 9092; 0 = a free one)")
    parser.add_argument("--data", type=Path, help="keep the data in this folder (default: a temporary one)")
    parser.add_argument(
        "--set", action="append", default=[], type=_setting, metavar="NAME=VALUE", help="a broker setting"
    )
    return parser.parse_args()


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    return name, value


def _check_free(port: int) -> None:
    """Raises DevServerError when somebody listens on `port`: the broker itself would say so in forty lines."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            step = "free it, or take another: make kafka ARGS='--port 0' finds a free one"
            raise DevServerError(f"port {port} cannot be listened on ({error.strerror}); {step}") from None


def _interrupt(_signal: int, _frame: types.FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _libs() -> Path:
    cache = Path(os.environ.get("SMARTPIPE_CACHE") or Path.home() / ".cache" / "smartpipe")
    return cache / f"kafka-{version()}"


def _copy_jars(libs: Path) -> None:
    _say(f"Assembling Apache Kafka {version()} from Maven artifacts (about 45 MB, once) ...")
    partial = libs.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode != 0:
        raise DevServerError(f"Maven could not fetch the broker:\n{(done.stdout + done.stderr).strip()[-2_000:]}")
    partial.rename(libs)
    _say(f"Kept in {libs}")


def _configure(folder: Path, ports: tuple[int, int], properties: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{name}={value}\n" for name, value in {**_broker_settings(folder, ports), **properties}.items()]
    (folder / "server.properties").write_text("".join(lines))


def _format(libs: Path, folder: Path) -> None:
    if (folder / "data" / "meta.properties").exists():
        return
    tool = [_java(), "-cp", f"{libs}/*", "kafka.tools.StorageTool", "format", "--cluster-id", "smartpipe-development"]
    done = subprocess.run(  # noqa: S603 - our own command
        [*tool, "--config", str(folder / "server.properties")], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DevServerError(f"the storage in {folder} could not be formatted:\n{done.stdout}{done.stderr}")


def _broker_settings(folder: Path, ports: tuple[int, int]) -> dict[str, str]:
    broker, controller = (f"127.0.0.1:{port}" for port in ports)
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{broker}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(folder / "data"),
        # A misspelt topic has to be an error, as it is in production.
        "auto.create.topics.enable": "false",
        # One broker, so one replica of everything; few partitions of the internal topics start faster.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
    }


def _serves(port: int) -> bool:
    """True once the broker answers an ApiVersions request (key 18, version 0) without an error."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        head = connection.recv(10, socket.MSG_WAITALL)
        return len(head) == 10 and struct.unpack(">iih", head)[1:] == (1, 0)
    return False


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else shutil.which("java") or "java"


def _java_version() -> int:
    try:
        done = subprocess.run([_java(), "-version"], capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return 0
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
