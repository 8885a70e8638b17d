"""`smartpipe catalogue publish`: checked files into the rating database, whose outbox brings them to the workers."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from schemas.catalogue import Catalogue
from services.cli.tables import shown_count
from services.rating.catalogue_diff import diff_catalogues
from services.rating.catalogue_files import PARTS, load_catalogue
from services.rating.catalogue_lint import lint_folder
from services.rating.catalogue_store import publish_catalogue, stored_catalogue
from services.rating.database import open_migrated
from services.runtime.settings import Settings


def publish_folder(
    folder: Path | None,
    settings: Settings,
    *,
    version: str | None = None,
    say: Callable[[str], None],
    may_publish: Callable[[], bool],
) -> int:
    """Show what would change, ask, publish; 0 when it is in force, or was not wanted, 1 when lint finds an error.

    `version` names it otherwise than the files do: a version that was replaced never comes back under its old name.

    Raises CatalogueRefused for a version name that was used before, and when somebody else published after the
    differences were shown; CatalogueFilesError, SchemaOutdated and DatabaseDown.
    """
    findings = lint_folder(folder)
    for finding in findings:
        say(str(finding))
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        say(f"{shown_count(errors, 'error')}; nothing was published")
        return 1
    engine, catalogue = open_migrated(settings), load_catalogue(folder, version=version)
    before = stored_catalogue(engine)
    if before is not None and before.version == catalogue.version and not diff_catalogues(before, catalogue):
        say(f"version {catalogue.version} is in force already")
        return 0
    for line in _differences(before, catalogue):
        say(line)
    if not may_publish():
        say("nothing was published")
        return 0
    done = publish_catalogue(engine, catalogue, replacing=None if before is None else before.version)
    say(f"version {done.version} is in force here; {done.changed} objects are on their way to the workers")
    return 0


def _differences(before: Catalogue | None, after: Catalogue) -> Iterator[str]:
    """Every change; of a first version only the counts."""
    if before is None:
        counts = ", ".join(f"{len(getattr(after, part))} {part}" for part in PARTS)
        yield f"first version {after.version}: {counts}"
        return
    changes = diff_catalogues(before, after)
    yield from map(str, changes)
    kinds = Counter(change.kind for change in changes)
    counted = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    yield f"from {before.version} to {after.version}: {counted}"
