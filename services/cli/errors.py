"""The errors that end a command with one line instead of a traceback: their messages say what to do next."""

from services.ingest.jsonlines import JsonLinesError
from services.rating.catalogue_files import CatalogueFilesError
from services.runtime.log import LogError
from services.runtime.settings import SettingsError

KNOWN_ERRORS: tuple[type[Exception], ...] = (SettingsError, LogError, CatalogueFilesError, JsonLinesError, OSError)
