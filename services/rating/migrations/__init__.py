"""Alembic migrations of the rating database; they ship inside the package and run from a wheel."""
