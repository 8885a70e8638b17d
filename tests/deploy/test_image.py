"""The Dockerfile copies what exists, installs by hash, and runs as the user that the manifests name."""

import shutil
import subprocess

import pytest

from deploy.checks.image import LOCKS, ROOT, USER, check_image, instructions, pins

EXPORTS = {
    "requirements-runtime.lock": ["--no-dev"],
    "requirements-build.lock": ["--only-group", "build"],
}


def test_image_is_clean():
    assert check_image() == []


def test_user_is_the_one_of_the_manifests(rendered):
    for deployment in rendered("base").of_kind("Deployment"):
        context = deployment["spec"]["template"]["spec"]["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == USER


def test_developers_tools_are_not_in_the_image():
    runtime = pins((ROOT / "requirements-runtime.lock").read_text())
    assert "aiokafka" in runtime
    assert not {"pytest", "mypy", "ruff", "hypothesis", "hatchling", "kubernetes-validate"} & runtime.keys()


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_is_what_uv_exports(tool, lock):
    export = ["export", "--quiet", "--frozen", "--offline", "--format", "requirements-txt", "--no-emit-project"]
    done = subprocess.run([tool("uv"), *export, *EXPORTS[lock]], cwd=ROOT, capture_output=True, text=True, check=True)
    written = (ROOT / lock).read_text()
    assert _without_header(written) == _without_header(done.stdout), f"{lock} is outdated; run `make lock`"


def _without_header(text):
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.fixture
def copy_of_the_root(tmp_path):
    for name in ("Dockerfile", ".dockerignore", "requirements.lock", *LOCKS, "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("schemas", "services"):
        (tmp_path / name).mkdir()
    return tmp_path


DEFECTS = [
    ("Dockerfile", "USER 10001:10001\n", "", "lacks USER 10001:10001"),
    ("Dockerfile", "USER 10001:10001", "USER smartpipe", "lacks USER 10001:10001"),
    ("Dockerfile", 'ENTRYPOINT ["smartpipe"]', "ENTRYPOINT smartpipe", 'lacks ENTRYPOINT ["smartpipe"]'),
    ("Dockerfile", "HEALTHCHECK NONE\n", "", "lacks HEALTHCHECK NONE"),
    ("Dockerfile", "STOPSIGNAL SIGTERM\n", "", "lacks STOPSIGNAL"),
    ("Dockerfile", "python:3.11-slim\n", "python:latest\n", "the base image is"),
    ("Dockerfile", "FROM ${PYTHON_IMAGE} AS build", "", "has one stage"),
    ("Dockerfile", "PIP_NO_CACHE_DIR=1 ", "", "pip keeps a cache"),
    ("Dockerfile", "install --require-hashes --only-binary :all: -r", "install -r", "installs without hashes"),
    ("Dockerfile", "org.opencontainers.image.revision", "revision", "no label org.opencontainers.image.revision"),
    ("Dockerfile", "COPY schemas schemas", "COPY schema schema", "copies schema, which does not exist"),
    ("Dockerfile", "COPY schemas schemas\n", "", "schemas is copied or let through"),
    (".dockerignore", "!services\n", "", "services is copied or let through"),
    (".dockerignore", "\n*\n", "\n", "does not begin by leaving out everything"),
    ("requirements-runtime.lock", "aiokafka==0.", "aiokafka==9.", "requirements-runtime.lock has aiokafka 9."),
]


@pytest.mark.parametrize(("file", "text", "instead", "words"), DEFECTS)
def test_planted_defect_is_caught(copy_of_the_root, file, text, instead, words):
    assert check_image(copy_of_the_root) == []
    path = copy_of_the_root / file
    assert text in path.read_text()
    path.write_text(path.read_text().replace(text, instead))
    complaints = check_image(copy_of_the_root)
    assert any(words in complaint for complaint in complaints), complaints


def test_continued_lines_and_comments_of_a_dockerfile_are_understood():
    text = "# RUN no\nRUN one \\\n    && two\n# between\nENV A=1\n"
    assert instructions(text) == [("RUN", "one && two"), ("ENV", "A=1")]
