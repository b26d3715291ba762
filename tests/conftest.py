"""Fixtures that any test may ask for."""

from tests.services import (
    database,
    database_url,
    empty_database_url,
    postgres,
    postgres_template,
    sqlite_template,
)

__all__ = [
    "database",
    "database_url",
    "empty_database_url",
    "postgres",
    "postgres_template",
    "sqlite_template",
]
