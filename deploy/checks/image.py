"""The Dockerfile and what it copies: checked without building it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.checks.expressions import DEPLOY

ROOT = DEPLOY.parent
USER = "10001:10001"
LOCKS = ("requirements-runtime.lock", "requirements-build.lock")

_INSTRUCTION = re.compile(r"^([A-Z]+) +(.+)$")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def check_image(root: Path = ROOT) -> list[str]:
    """Complaints about Dockerfile, .dockerignore and the lock files that the image installs from."""
    steps = instructions((root / "Dockerfile").read_text())
    return [
        *_stage_problems(steps),
        *_install_problems(steps),
        *_copy_problems(steps, root),
        *_lock_problems({name: (root / name).read_text() for name in (*LOCKS, "requirements.lock")}),
    ]


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(m[1], " ".join(m[2].split())) for line in joined.splitlines() if (m := _INSTRUCTION.match(line))]


def pins(lock: str) -> dict[str, str]:
    """Package -> version of a lock file."""
    return dict(_PIN.findall(lock))


def _stage_problems(steps: list[tuple[str, str]]) -> Iterator[str]:
    stages = [value for name, value in steps if name == "FROM"]
    if len(stages) < 2:
        yield "the Dockerfile has one stage; build tools would end up in the image"
    bases = [value for name, value in steps if name == "ARG" and value.startswith("PYTHON_IMAGE=")]
    if bases != ["PYTHON_IMAGE=python:3.11-slim"]:
        yield f"the base image is {bases}, not python:3.11-slim"
    last = steps[max(at for at, (name, _) in enumerate(steps) if name == "FROM") :]
    wanted = {"USER": USER, "ENTRYPOINT": '["smartpipe"]', "HEALTHCHECK": "NONE", "STOPSIGNAL": "SIGTERM"}
    for name, value in wanted.items():
        if (name, value) not in last:
            yield f"the last stage lacks {name} {value}"
    labels = " ".join(value for name, value in last if name == "LABEL")
    for label in ("title", "description", "licenses", "version", "revision", "created"):
        if f"org.opencontainers.image.{label}=" not in labels:
            yield f"the image has no label org.opencontainers.image.{label}"


def _install_problems(steps: list[tuple[str, str]]) -> Iterator[str]:
    for command in [part for name, value in steps if name == "RUN" for part in value.split("&&")]:
        if " install " not in command or "pip" not in command:
            continue
        if "--require-hashes" not in command and "--no-index" not in command:
            yield f"installs without hashes: {command.strip()}"
    if not any(name == "ENV" and "PIP_NO_CACHE_DIR=1" in value for name, value in steps):
        yield "pip keeps a cache in the image"


def _copy_problems(steps: list[tuple[str, str]], root: Path) -> Iterator[str]:
    ignore = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        source
        for name, value in steps
        if name == "COPY" and not value.startswith("--from")
        for source in value.split()[:-1]
    }
    for source in sorted(copied):
        if not (root / source).exists():
            yield f"copies {source}, which does not exist"
    if ignore[0] != "*":
        yield ".dockerignore does not begin by leaving out everything"
    for source in sorted(copied ^ allowed):
        yield f"{source} is copied or let through by .dockerignore, but not both"


def _lock_problems(locks: Mapping[str, str]) -> Iterator[str]:
    everything = pins(locks["requirements.lock"])
    for name in LOCKS:
        for package, version in pins(locks[name]).items():
            if everything.get(package) != version:
                yield f"{name} has {package} {version}, requirements.lock {everything.get(package)}; run `make lock`"
