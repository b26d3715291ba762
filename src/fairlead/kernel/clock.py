"""The one place that asks the wall clock."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)  # noqa: TID251


def iso(moment: datetime) -> str:
    """`moment` as RFC 3339 in UTC with a trailing Z and milliseconds: sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
