"""The source tree as the checks of the house see it."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PRODUCT = ("services", "schemas")
"""What the wheel holds."""

CODE = (*PRODUCT, "bench", "deploy", "tests")
"""Every folder that holds Python."""

_NOT_OURS = {"__pycache__", "node_modules"}


def python_files(*folders: str, root: Path = ROOT) -> Iterator[Path]:
    """Every Python file below `folders`, in a stable order."""
    yield from _files(folders, {".py"}, root)


def text_files(*folders: str, root: Path = ROOT) -> Iterator[Path]:
    """Every file below `folders` that people write or read as text."""
    suffixes = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".cfg", ".mako", ".sh", ""}
    yield from _files(folders, suffixes, root)


def name_of(path: Path, root: Path = ROOT) -> str:
    """The path below the root, with forward slashes."""
    return path.relative_to(root).as_posix()


def _files(folders: tuple[str, ...], suffixes: set[str], root: Path) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            below = path.relative_to(root).parts
            if path.is_file() and path.suffix in suffixes and not _NOT_OURS.intersection(below):
                yield path
