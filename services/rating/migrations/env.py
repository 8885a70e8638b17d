"""Alembic's entry: runs inside the transaction that `services.rating.database.migrate` opened."""

from alembic import context

from services.rating.models import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
context.run_migrations()
