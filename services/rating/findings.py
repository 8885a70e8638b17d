"""What lint says: one mistake, where it stands, and what to do about it."""

import dataclasses
from typing import Literal

from services.rating.catalogue_yaml import Location

Severity = Literal["error", "warning"]
"""An error is never what was meant; a warning may be, and then a change of the files says so."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One mistake: its code, where it stands, what it is and what to do."""

    code: str
    location: Location
    message: str
    next_step: str
    severity: Severity = "error"
    objects: tuple[str, ...] = ()
    """What it is about, each as `kind id`, such as `offering plan` or `allowance plan/data`."""

    def __str__(self) -> str:
        step = f"; {self.next_step}" if self.next_step else ""
        return f"{self.location}: {self.severity}: {self.code}: {self.message}{step}"

    def document(self) -> dict[str, object]:
        """The finding for a program to read."""
        return {
            "severity": self.severity,
            "code": self.code,
            "file": self.location.file,
            "line": self.location.line,
            "objects": list(self.objects),
            "message": self.message,
            "next_step": self.next_step,
        }
