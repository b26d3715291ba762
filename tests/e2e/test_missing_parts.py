"""What a member sees when a part that Fairlead stands on is missing: a clear problem, and nothing changed."""

import json
import time
from pathlib import Path

import pytest

from fairlead.cli.client import ServerRefused
from tests.e2e.product import planned, running
from tests.services import free_port

TEXT = json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}})


def test_a_missing_mcp_server_fails_the_plan_and_says_so(tmp_path: Path) -> None:
    with running(tmp_path / "data", FAIRLEAD_AWS__MCP__COMMAND='["/no/such/program"]') as product:
        product.project("parts", ann="author")
        made = planned(product.user("ann"), "parts", TEXT)
        assert (made["status"], made["problem"]["code"]) == ("failed", "mcp.server_unavailable")
        assert made["problem"]["remedy"]
        assert product.user("ann").get("/projects/parts/resources")["items"] == []


def test_an_unreachable_object_store_is_told_soon_and_leaves_no_plan(tmp_path: Path) -> None:
    settings = {
        "FAIRLEAD_OBJECTS__URL": "s3://bucket/state",
        "FAIRLEAD_OBJECTS__ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "FAIRLEAD_OBJECTS__REGION": "us-east-1",
        "FAIRLEAD_OBJECTS__ACCESS_KEY_ID": "key",
        "FAIRLEAD_OBJECTS__SECRET_ACCESS_KEY": "not-to-be-shown",
    }
    with running(tmp_path / "data", **settings) as product:
        product.project("parts", ann="author")
        ann = product.user("ann")
        began = time.monotonic()
        with pytest.raises(ServerRefused) as failure:
            ann.post("/projects/parts/plans", {"template": TEXT})
        assert time.monotonic() - began < 50
        problem = failure.value.body
        assert (problem["code"], problem["status"], problem["retryable"]) == (
            "objects.unavailable",
            503,
            True,
        )
        assert "not-to-be-shown" not in json.dumps(problem) + product.log.read_text()
        assert ann.get("/projects/parts/plans")["items"] == []
