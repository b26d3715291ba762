"""Fixtures that any test may ask for."""

from hypothesis import HealthCheck, settings

from tests.services import (
    database,
    database_url,
    empty_database_url,
    postgres,
    postgres_template,
    sqlite_template,
)

# A busy machine is slow: neither an example nor its making has a deadline.
settings.register_profile(
    "unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")

__all__ = [
    "database",
    "database_url",
    "empty_database_url",
    "postgres",
    "postgres_template",
    "sqlite_template",
]
