"""Who is told what about a plan: names and counts, never values; and settings that can never work."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fairlead.changes.model import PlanRecord, PlanStatus, RiskLevel
from fairlead.changes.notices import EVENTS, body_of, check
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.projects.model import Notifications, Project, ProjectSettings

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PROJECT = Project(
    id="shop",
    uid="u1",
    name="Web shop",
    description="",
    owner="ann",
    settings=ProjectSettings(),
    version=1,
    archived_at=None,
    created_at=WHEN,
    updated_at=WHEN,
)


def change(action: str) -> dict[str, Any]:
    return {"action": action, "properties": [{"path": "Password", "after": "hunter2"}]}


PLAN = PlanRecord(
    project_id="shop",
    number=7,
    status=PlanStatus.PENDING,
    author_id="a",
    author="ann",
    description="new queue",
    destroy=False,
    template_key="k",
    parameters="sealed-hunter2",
    created_at=WHEN,
    deadline_at=WHEN,
    digest="d" * 64,
    risk=RiskLevel.HIGH,
    document={"changes": [change("create"), change("create"), change("replace")]},
    problem={"code": "changes.apply_failed", "detail": "hunter2 is no password"},
)


def test_a_plan_that_waits_is_told_in_one_line() -> None:
    body = body_of("run-1", "plan.pending", PLAN, PROJECT)
    assert body["text"] == (
        "Web shop: plan 7 of ann waits for approval (2 create, 1 replace; risk HIGH): new queue"
    )
    assert (body["id"], body["event"]) == ("run-1", "plan.pending")
    assert body["project"] == {"id": "shop", "name": "Web shop"}
    assert body["plan"]["changes"] == {"create": 2, "replace": 1}
    assert body["plan"]["problem"] == "changes.apply_failed"


@pytest.mark.parametrize("event", EVENTS)
def test_no_body_holds_a_value(event: str) -> None:
    assert "hunter2" not in json.dumps(body_of("r", event, PLAN, PROJECT))


def test_what_people_write_cannot_call_everybody_in_a_chat() -> None:
    loud = replace(PLAN, description="<!everyone> & <https://x|y>", document=None)
    text = body_of("r", "plan.failed", loud, PROJECT)["text"]
    assert text == "Web shop: plan 7 of ann failed: &lt;!everyone&gt; &amp; &lt;https://x|y&gt;"


def test_every_status_after_planning_is_an_event() -> None:
    assert set(EVENTS) == {f"plan.{status}" for status in PlanStatus if status is not PlanStatus.PLANNING}


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        pytest.param({}, None, id="none"),
        pytest.param(
            {"webhook_url": "https://x.example/h", "events": ["plan.pending", "plan.failed"]}, None, id="good"
        ),
        pytest.param(
            {"events": ["plan.applied", "plan.done"]}, "changes.notification_unknown", id="no event"
        ),
        pytest.param({"webhook_url": "http://x.example/h"}, "changes.webhook_address", id="in clear"),
    ],
)
def test_settings_that_can_never_work_are_refused(settings: dict[str, Any], code: str | None) -> None:
    notifications = Notifications.model_validate(settings)
    if code is None:
        check(notifications)
        return
    with pytest.raises(FairleadError) as caught:
        check(notifications)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        pytest.param("https://hooks.example.com/services/T/B/x", "https://hooks.example.com/****", id="path"),
        pytest.param("https://hooks.example.com?key=x", "https://hooks.example.com/****", id="query"),
        pytest.param("http://127.0.0.1:9000/x#y", "http://127.0.0.1:9000/****", id="port"),
        pytest.param(None, None, id="none"),
    ],
)
def test_the_path_of_a_webhook_can_be_masked(url: str | None, shown: str | None) -> None:
    assert Notifications(webhook_url=url).masked().webhook_url == shown
