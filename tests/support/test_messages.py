"""What the sockets say and take: the reference is current, and what jobs tell has the promised form."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.kernel.errors import InvalidInput
from fairlead.kernel.runs import Event
from fairlead.support import messages
from fairlead.support.answers.model import Answer, Clarify, Evidence
from fairlead.support.feeds import Bucket
from fairlead.support.model import JobKind, Period
from fairlead.support.telling import STAGES
from tests.support import realtime_reference

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def test_the_reference_is_current() -> None:
    assert realtime_reference.documented() == realtime_reference.tables()


def test_every_stage_that_jobs_tell_is_one_that_the_app_knows() -> None:
    stages = messages.Progress.model_json_schema()["properties"]["stage"]["enum"]
    assert tuple(stages) == STAGES


def test_answers_and_questions_back_have_the_promised_form() -> None:
    period = Period(start=NOW, end=NOW.replace(day=21), timezone="Asia/Seoul")
    evidence = Evidence(
        account="111122223333", region="ap-northeast-2", period=period, count=3, calls=("s3:ListBuckets",)
    )
    answer = Answer(text="three", evidence=evidence, model="embedded", suggests="report", month="2026-10")
    assert (
        messages.Answer.model_validate(answer.document()).model_dump(exclude_none=True) == answer.document()
    )
    back = Clarify(question="Which?", choices=("this one",))
    assert messages.Clarify.model_validate(back.document()).model_dump(exclude_none=True) == back.document()


@pytest.mark.parametrize(
    ("type_", "data", "kind", "said"),
    [
        ("run.queued", {"kind": "support.ask", "actor": "a"}, "accepted", {"what": "ask", "text": "who?"}),
        ("run.started", {}, "run.started", {}),
        ("support.delta", {"text": "x"}, "delta", {"text": "x"}),
        ("run.failed", {"problem": {"code": "a.b"}, "more": 1}, "failed", {"problem": {"code": "a.b"}}),
        ("run.succeeded", {"result": {"secret": 1}}, "run.succeeded", {}),
        ("run.cancel_requested", {"actor": "zendesk:1:2"}, "run.cancel_requested", {}),
        ("run.cancelled", {}, "cancelled", {}),
    ],
)
def test_a_run_s_event_becomes_the_app_s_and_keeps_its_number(
    type_: str, data: Mapping[str, Any], kind: str, said: Mapping[str, Any]
) -> None:
    asked = messages.asked({"text": "who?", "account": "111122223333"}, JobKind.ASK)
    event = Event(run_id="r", seq=7, at=NOW, type=type_, data=dict(data))
    assert messages.job_event(event, asked) == {"job": "r", "seq": 7, "kind": kind, "data": said}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(name=st.sampled_from(sorted(messages.REQUESTS)), payload=json_values)
def test_whatever_a_client_sends_is_a_request_or_refused_without_repeating_it(
    name: str, payload: Any
) -> None:
    faults: list[dict[str, str]] | None = None
    try:
        messages.parsed(messages.REQUESTS[name], payload)
    except InvalidInput as error:
        faults = error.details["faults"]
    if faults is not None:
        assert faults
        assert all(fault.keys() == {"field", "message"} for fault in faults)


@given(st.lists(st.floats(0, 5), max_size=60))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(gaps: list[float]) -> None:
    bucket, now, given_out = Bucket(rate=2.0, burst=5.0), 0.0, 0
    for gap in gaps:
        now += gap
        given_out += not bucket.take(now)
        assert given_out <= 5.0 + 2.0 * now + 1e-6
