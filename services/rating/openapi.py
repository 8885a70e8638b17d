"""Writes the OpenAPI document of the rating API: `python -m services.rating.openapi [--check] [FILE]`."""

import argparse
import json
import sys
from pathlib import Path

from services.rating.app import create_app
from services.rating.database import open_database
from services.runtime.settings import Settings

FILE = Path("schemas/openapi/rating.json")
"""Where the repository keeps it; a test refuses a difference."""


def openapi_text() -> str:
    """The document as it is kept: sorted, indented, one line at the end."""
    # The engine is never connected. The version of the product is left out: a release alone is no change of the API.
    engine = open_database(Settings(database_url="sqlite:///openapi"))
    document = create_app(engine).openapi()
    document["info"]["version"] = "1.0.0"
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the document, or, with `--check`, say whether the file is as the code writes it: exit code 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    options = parser.parse_args(arguments)
    if options.check:
        return _check(options.file)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    options.file.write_text(openapi_text(), encoding="utf-8")
    return 0


def _check(file: Path) -> int:
    if file.is_file() and file.read_text(encoding="utf-8") == openapi_text():
        return 0
    sys.stderr.write(f"{file} is not as the code writes it; run `python -m services.rating.openapi`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
