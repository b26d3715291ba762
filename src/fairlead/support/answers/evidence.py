"""What an answer of a language model stands on: the calls that were made, not what the model says of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from fairlead.support.answers import commands
from fairlead.support.answers.model import Evidence, Question
from fairlead.support.answers.phrases import cause
from fairlead.support.answers.tools import summary
from fairlead.support.answers.toolset import Made
from fairlead.support.model import Period


def of_calls(
    account: str | None, made: Sequence[Made], period: Period | None, question: Question
) -> Evidence:
    """Evidence of `made`; `period` is the one of the question, where no call names one."""
    failed = [(one, one.result.failure) for one in made if one.result.failure]
    unread = tuple(
        f"{summary(one.name, one.arguments)} — "
        f"{cause(failure.cause, question.language, code=failure.code, call=failure.call)}"
        for one, failure in failed
    )
    regions = dict.fromkeys(filter(None, (_region(one) for one in made)))
    answered = [one.result for one in made if not one.result.failure]
    counted = Counter(summary(one.name, one.arguments) for one in made)
    return Evidence(
        account=account,
        region=", ".join(regions) or None,
        period=_period(made, question) or (period if made else None),
        count=sum(result.count for result in answered) if answered else None,
        truncated=any(result.more for result in answered),
        calls=tuple(f"{what} x{times}" if times > 1 else what for what, times in counted.items()),
        unread=unread,
    )


def _region(made: Made) -> str | None:
    if made.name != "call_aws":
        region = made.arguments.get("region")
        return region if isinstance(region, str) and commands.REGION.fullmatch(region) else None
    try:
        return commands.checked(str(made.arguments.get("command", "")))[2]
    except commands.CommandRefused:
        return None


def _moment(arguments: Mapping[str, Any], name: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(arguments.get(name)))
    except ValueError:
        return None
    return found if found.tzinfo else None


def _period(made: Sequence[Made], question: Question) -> Period | None:
    """From the earliest to the latest time that the calls asked for."""
    starts = [at for one in made if (at := _moment(one.arguments, "start_time"))]
    ends = [at for one in made if (at := _moment(one.arguments, "end_time"))]
    if not starts or not ends or min(starts) >= max(ends):
        return None
    zone = ZoneInfo(question.timezone)
    return Period(
        start=min(starts).astimezone(zone), end=max(ends).astimezone(zone), timezone=question.timezone
    )
