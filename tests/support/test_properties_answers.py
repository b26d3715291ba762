"""Two of the seed's ten correctness properties: answers are consistent, and so is what tools may do."""

# ruff: noqa: DTZ001, E501
import asyncio
import re
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.tools import RunContext
from pydantic_ai.usage import RunUsage

from fairlead.support.answers import plans, rendering, tools
from fairlead.support.answers.embedded import fixed
from fairlead.support.answers.model import Question
from fairlead.support.answers.plans import Done
from fairlead.support.answers.tools import TOOLS, Cause, Failure, Result
from fairlead.support.answers.toolset import AccountTools
from fairlead.support.language import language_of
from fairlead.support.model import Intent, Language
from fairlead.support.understanding import understand
from tests.support import accuracy

ACCOUNT = "111122223333"
READ = (Intent.API_ACTIVITY, Intent.MONITORING, Intent.INVENTORY)
QUESTIONS = [row["text"] for row in accuracy.questions() if row["intent"] in READ]
NOW = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
# What customers can call things: anything at all.
WRITTEN = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Z", "C")), max_size=60)


def _events(names: list[str]) -> dict[str, Any]:
    return {
        "events": [
            {"EventId": str(n), "EventName": "RunInstances", "EventTime": "2026-11-19T01:00:00Z", "Username": name,
             "ReadOnly": "false", "Resources": [{"ResourceName": name, "ResourceType": "x"}], "CloudTrailEvent": "{}"}
            for n, name in enumerate(names)
        ],
        "next_token": None,
    }  # fmt: skip


def _said(tool: str, names: list[str], failure: Failure | None, *, more: bool) -> Result:
    """What a tool might say about things of these names."""
    if failure:
        return Result(failure=failure)
    data: dict[str, Any] = {
        "lookup_events": _events(names),
        "get_active_alarms": {"metric_alarms": [{"alarm_name": name} for name in names]},
        "get_alarm_history": {"alarm_details": {"current_state": "OK"}, "history_items": []},
        "get_metric_data": {"metricDataResults": []},
    }.get(tool, {"rows": [{"id": name, "name": name, "state": "running"} for name in names]})
    return Result(data=data, count=len(names), more=more and tool != "lookup_events")


@given(
    text=st.sampled_from(QUESTIONS),
    now=NOW,
    names=st.lists(WRITTEN, max_size=30),
    failure=st.none()
    | st.builds(Failure, cause=st.sampled_from(Cause), code=st.sampled_from(["", "Throttling"])),
    more=st.booleans(),
)
@settings(deadline=None, max_examples=120)
def test_property_3_output_consistency(
    text: str, now: datetime, names: list[str], failure: Failure | None, more: bool
) -> None:
    """The same question and data give the same reading, calls and text, and no part of an answer is missing."""
    question = Question(text=text, language=language_of(text), now=now)
    told = [_answered(question, names, failure, more=more) for _ in range(2)]
    assert told[0] == told[1]
    if told[0] is None:
        return
    answer, evidence = told[0]
    korean = question.language is Language.KOREAN
    basis, calls, follow, rules = (
        ("기준: 계정 ", "호출(", "다음 단계: ", "규칙과 조회 결과로 작성")
        if korean
        else ("Basis: account ", "Calls (", "Next step: ", "put together by rules")
    )
    for part in (f"{basis}{ACCOUNT}", calls, follow, rules, str(evidence.region)):
        assert part in answer
    assert (evidence.period is None) == (("현재 상태" if korean else "as it is now") in answer)
    assert evidence.count is not None
    assert evidence.calls
    # What customers wrote adds no line: one bullet is one row, however the name tries.
    assert answer.count("\n• ") + answer.startswith("• ") <= 2 * rendering.SHOWN
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200b]", answer)
    if failure:
        assert evidence.unread
        assert ("읽지 못했으므로" if korean else "Nothing could be read") in answer
    else:
        assert not evidence.unread
        assert len(names) <= rendering.SHOWN or evidence.count == 0 or evidence.truncated


def _answered(question: Question, names: list[str], failure: Failure | None, *, more: bool) -> Any:
    understood = understand(question.text, plans.local_now(question))
    made = plans.plan(question, understood) if understood.intent in READ else None
    if made is None:
        return None
    done: list[Done] = []
    upcoming = made.first
    while upcoming:
        done += [
            Done(call=call, result=_said(call.tool, names, failure, more=more))
            for call in upcoming
            if tools.prepared(call.tool, call.arguments)
        ]
        upcoming = plans.following(made, done, understood.slots)
    return rendering.rendered(question, ACCOUNT, made, done, understood.slots)


# ── tools ─────────────────────────────────────────────────────────────────────────────────────────


class _Group:
    """The servers of an account that holds nothing; keeps what they were asked."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, Any]]] = []

    async def call(self, server: str, tool: str, arguments: Mapping[str, Any]) -> Any:
        self.sent.append((server, tool, dict(arguments)))
        return {"events": [], "next_token": None, "metricDataResults": [], "metric_alarms": []}


_SPOKEN = (
    "aws ec2 iam s3api sts ssm lambda describe-instances list-users create-user get-object assume-role"
    " get-parameter get-function --region --profile --endpoint-url us-east-1 ap-northeast-2 other"
    " file:///etc/passwd http://x ; && | $(id) `id`"
)
_WORDS = st.sampled_from(_SPOKEN.split())
_COMMANDS = st.one_of(
    st.lists(_WORDS, max_size=9).map(" ".join),
    st.lists(_WORDS, max_size=5).map(lambda words: " ".join(["aws ec2 describe-instances", *words])),
    st.text(string.printable, max_size=80),
)
_TIMES = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1)).map(
    lambda at: at.replace(tzinfo=UTC).isoformat()
)
_VALUES = st.one_of(st.text(max_size=20), st.integers(), st.none(), st.booleans(), _TIMES)
_ARGUMENTS = st.one_of(
    st.fixed_dictionaries({"command": _COMMANDS}),
    st.fixed_dictionaries(
        {"region": st.sampled_from(["us-east-1", "x", "us-east-1; id", "../.."])},
        optional={"start_time": _TIMES, "end_time": _TIMES, "profile_name": st.just("other"), "max_items": st.integers(),
                  "alarm_name": st.text(max_size=10), "account": st.just("444455556666")},
    ),
    st.dictionaries(st.text(max_size=12), _VALUES, max_size=4),
)  # fmt: skip
_NAMES = st.one_of(
    st.sampled_from(
        [*TOOLS, "lake_query", "execute_log_insights_query", "cancel_logs_insight_query", "delete"]
    ),
    st.text(max_size=12),
)


@given(calls=st.lists(st.tuples(_NAMES, _ARGUMENTS), min_size=1, max_size=6))
@settings(deadline=None, max_examples=150)
def test_property_8_mcp_consistency(calls: list[tuple[str, dict[str, Any]]]) -> None:
    """Whatever a model asks for: only our tools, of their servers, with arguments that we allow, and audited first."""
    group, audited = asyncio.run(_all_called(calls))
    assert [tool for _, tool, _ in group.sent] == [name for name, _ in audited]
    for (server, tool, arguments), (_, summary) in zip(group.sent, audited, strict=True):
        assert TOOLS[tool].server == server
        assert not {"profile_name", "account", "profile"} & set(arguments)
        assert summary
        assert "\n" not in summary
        if tool == "call_aws":
            words = arguments["cli_command"].split()
            assert words[0] == "aws"
            assert re.match(r"describe-|list-|get-|head-", words[2])
            assert not re.search(r"secret-value|parameter|get-object|get-function$|assume", words[2])
            assert not any(word.startswith(("--prof", "--endpoint", "file:", "http")) for word in words)
        else:
            assert re.fullmatch(r"[a-z]{2}(-[a-z]+){1,3}-\d{1,2}", arguments["region"])


async def _all_called(calls: list[tuple[str, dict[str, Any]]]) -> tuple[_Group, list[tuple[str, str]]]:
    audited: list[tuple[str, str]] = []

    async def announce(name: str, summary: str, _noted: str) -> None:
        audited.append((name, summary))

    group = _Group()
    toolset = AccountTools(group, announce)
    context: RunContext[None] = RunContext(deps=None, model=fixed("x"), usage=RunUsage())
    offered = await toolset.get_tools(context)
    assert set(offered) == set(TOOLS)
    for number, (name, arguments) in enumerate(calls):
        context.tool_call_id = str(number)
        before = len(group.sent)
        said = await toolset.call_tool(name, arguments, context, offered["call_aws"])
        if len(group.sent) == before:
            assert said["error"]["cause"] == "refused"
    assert len(toolset.made) == len(calls)
    return group, audited


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_no_tool_takes_an_account_or_a_profile(name: str) -> None:
    properties = TOOLS[name].arguments.model_json_schema()["properties"]
    assert not {part for part in properties if re.search("profile|account|role|credential|endpoint", part)}
    assert TOOLS[name].arguments.model_config.get("extra") == "forbid"
