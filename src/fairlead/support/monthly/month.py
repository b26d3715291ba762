"""Which month a report is about, and from when to when that is in a time zone."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from zoneinfo import ZoneInfo

from fairlead.kernel.errors import FairleadError

DEFAULT_ZONE = "Asia/Seoul"
FIRST_YEAR, LAST_YEAR = 2006, 2100  # there was no AWS before


class MonthUnreadable(FairleadError):
    """That is no month of any year."""

    code, status, retryable = "support.month_unreadable", 422, False


class MonthNotBegun(FairleadError):
    """The month has not begun yet."""

    code, status, retryable = "support.month_not_begun", 422, False


class TimezoneUnknown(FairleadError):
    """There is no time zone of that name."""

    code, status, retryable = "support.timezone_unknown", 422, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Half open, [start, end), aware and in the zone. `running`: the month goes on, `end` is now."""

    start: datetime
    end: datetime
    timezone: str  # IANA name
    running: bool


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month of some year."""

    year: int
    number: int  # 1 to 12

    @classmethod
    def parse(cls, text: str) -> Self:
        """`text` as "2026-10". Raises MonthUnreadable."""
        written = re.fullmatch(r"([0-9]{4})-([0-9]{2})", text.strip())
        year, number = (int(written[1]), int(written[2])) if written else (0, 0)
        if not (FIRST_YEAR <= year <= LAST_YEAR and 1 <= number <= 12):
            raise MonthUnreadable(
                f"{text[:40]!r} is not a month.", remedy="Write year and month, such as 2026-10."
            )
        return cls(year, number)

    @classmethod
    def before(cls, now: datetime, timezone: str = DEFAULT_ZONE) -> Self:
        """The last month that is over at `now` (aware) in `timezone`. Raises TimezoneUnknown."""
        here = now.astimezone(zone(timezone))
        return cls(here.year, here.month).previous()

    def previous(self) -> Self:
        """The month before."""
        return self._moved(-1)

    def span(self, now: datetime, timezone: str = DEFAULT_ZONE) -> Span:
        """From when to when it is, at `now` (aware). Raises MonthNotBegun, TimezoneUnknown."""
        place, after = zone(timezone), self._moved(1)
        start = _first(self.year, self.number, place)
        end = _first(after.year, after.number, place)
        if now <= start:
            raise MonthNotBegun(
                f"{self} has not begun in {timezone}.",
                remedy=f"Choose {Month.before(now, timezone)} or another month that is over.",
            )
        return Span(start=start, end=min(end, now.astimezone(place)), timezone=timezone, running=now < end)

    def _moved(self, months: int) -> Self:
        index = self.year * 12 + self.number - 1 + months
        return type(self)(index // 12, index % 12 + 1)

    def __str__(self) -> str:
        return f"{self.year}-{self.number:02}"


def zone(name: str) -> ZoneInfo:
    """The IANA time zone `name`. Raises TimezoneUnknown."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # also where the name leads out of the folder of zones
        raise TimezoneUnknown(
            f"There is no time zone {name[:60]!r}.", remedy="Give an IANA name, such as Asia/Seoul or UTC."
        ) from error


def _first(year: int, month: int, place: ZoneInfo) -> datetime:
    """The first moment of a month. A midnight that the clocks skip becomes the moment they skip to."""
    return datetime(year, month, 1, tzinfo=place).astimezone(UTC).astimezone(place)
