"""The programs that some checks need.

Where one is missing the check is skipped and says so in one line; with SMARTPIPE_REQUIRE_TOOLS=1, or with a list of
names such as `promtool,kubectl`, a missing one is an error.
"""

import os
import shutil

VARIABLE = "SMARTPIPE_REQUIRE_TOOLS"

SOURCES = {
    "kubectl": "kubectl 1.27 or newer",
    "promtool": "Debian's package `prometheus`",
    "prometheus": "Debian's package `prometheus`",
    "uv": "uv",
}
"""Where each program comes from."""


class ToolMissing(Exception):  # noqa: N818 - a state of affairs
    """A program is not on PATH; the message says what to install."""

    def __init__(self, tool: str, message: str) -> None:
        super().__init__(message)
        self.tool = tool


def path_of(tool: str) -> str:
    """The path of `tool`. Raises ToolMissing where it is not on PATH."""
    path = shutil.which(tool)
    if path is None:
        raise ToolMissing(tool, f"{tool} is not on PATH; install {SOURCES[tool]}")
    return path


def required(tool: str) -> bool:
    """Whether it is an error that `tool` is missing."""
    stated = os.environ.get(VARIABLE, "")
    return stated == "1" or tool in stated.split(",")
