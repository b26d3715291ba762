"""CloudWatch: alarms that ring, that see nothing, or that nobody hears."""

from collections.abc import AsyncIterator

from fairlead.support.collect import Reads
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless

ALARM = "AWS::CloudWatch::Alarm"


async def alarms(reads: Reads) -> AsyncIterator[Item]:
    """Metric alarms."""
    async for found in reads.pages("cloudwatch", "describe_alarms", "MetricAlarms"):
        yield item(reads, ALARM, found["AlarmArn"], found, name=found["AlarmName"])


def rings(alarm: Item) -> Verdict:
    """Not in ALARM."""
    if alarm["StateValue"] != "ALARM":
        return unless(False, "")
    since = alarm.optional("StateUpdatedTimestamp")
    return unless(True, f"In ALARM since {since:%Y-%m-%d %H:%M} UTC." if since else "In ALARM.")


def sees(alarm: Item) -> Verdict:
    """There is data."""
    return unless(alarm["StateValue"] == "INSUFFICIENT_DATA", "There is no data to judge by.")


def is_heard(alarm: Item) -> Verdict:
    """Something happens when it rings."""
    quiet = not alarm.optional("AlarmActions")
    off = not alarm.optional("ActionsEnabled", True)
    return unless(quiet or off, "It has no action." if quiet else "Its actions are switched off.")


SERVICE = Service(
    name="cloudwatch",
    reference="https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html",
    sources=(
        Source(
            kind=ALARM,
            collect=alarms,
            checks=(
                Check(
                    id="cloudwatch.alarm_rings",
                    title="Alarm is ringing",
                    severity=Severity.MEDIUM,
                    judge=rings,
                    why="Something is outside the bounds that somebody set for it.",
                    fix="Look at the metric and its cause; where the bound is wrong, change the alarm.",
                    pillars=("operational-excellence", "reliability"),
                ),
                Check(
                    id="cloudwatch.alarm_blind",
                    title="Alarm has no data",
                    severity=Severity.LOW,
                    judge=sees,
                    why="It will not ring, whatever happens: the resource may be gone or the name misspelt.",
                    fix="Correct the metric and its dimensions, or delete the alarm.",
                    pillars=("operational-excellence",),
                ),
                Check(
                    id="cloudwatch.alarm_unheard",
                    title="Nothing happens when the alarm rings",
                    severity=Severity.LOW,
                    judge=is_heard,
                    why="Nobody hears it.",
                    fix="Add an action, such as an SNS topic that the team on duty reads.",
                    pillars=("operational-excellence",),
                ),
            ),
        ),
    ),
)
