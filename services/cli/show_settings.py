"""`smartpipe settings`: every setting with its present value, rule and meaning. Secrets are not shown."""

import os

from rich.console import Console
from rich.table import Table

from services.runtime.settings import PREFIX, Settings

HIDDEN = "(set)"


def show_settings(settings: Settings) -> None:
    """Print the table; a value that comes from the environment is marked."""
    table = Table(title="Settings of Smartpipe", caption="* = from the environment")
    for column in ("variable", "value", "meaning"):
        table.add_column(column, overflow="fold")
    for name, field in Settings.model_fields.items():
        variable, value = PREFIX + name.upper(), getattr(settings, name)
        shown = HIDDEN if not field.repr and value else str(value)
        mark = " *" if variable in os.environ else ""
        table.add_row(variable, shown + mark, field.description or "")
    Console().print(table)
