"""Writes the OpenAPI document of the rating API: `python -m services.rating.openapi [file]`."""

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


def main() -> None:
    """Write the file named on the command line, or FILE."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(openapi_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
