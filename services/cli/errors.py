"""The errors that end a command with one line instead of a traceback: their messages say what to do next."""

from services.cli.recorded import RecordingError
from services.cli.submit import SubmissionRefused
from services.engine.classify_table import UnusableEntryError
from services.engine.simulate import SimulationError
from services.ingest.jsonlines import JsonLinesError
from services.rating.accounts import CommandRefused
from services.rating.catalogue_files import CatalogueFilesError
from services.rating.catalogue_store import CatalogueRefused
from services.rating.corrections import CorrectionRefused
from services.rating.database import DatabaseDown, SchemaOutdated
from services.rating.patience import OutageTooLong
from services.rating.settlement import SettlementRefused
from services.runtime.log import LogError
from services.runtime.settings import SettingsError

KNOWN_ERRORS: tuple[type[Exception], ...] = (
    SettingsError,
    LogError,
    CatalogueFilesError,
    CatalogueRefused,
    CommandRefused,
    CorrectionRefused,
    DatabaseDown,
    JsonLinesError,
    OutageTooLong,
    RecordingError,
    SchemaOutdated,
    SettlementRefused,
    SimulationError,
    SubmissionRefused,
    UnusableEntryError,
    OSError,
)
