"""kill -9 of the worker at a random moment of an apply of 60 resources, again and again, on both databases.

Lost: recorded in the state, but not there. Doubled: there, but not recorded. Both are counted by asking
the local AWS's own service APIs for everything that exists. Resources have no names of their own, so a
second creation would succeed and show.

    python -m tests.benchmarks crash            # 20 rounds on each database
    FAIRLEAD_CRASH_ROUNDS=3 python -m tests.benchmarks crash
"""

import json
import os
import random
import statistics
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairlead.cli.client import Client
from tests.e2e.product import Product, approve, planned, running, settled, until
from tests.services import running_postgres

COUNT = 60
SEED = 20261120


def run() -> list[tuple[str, float, str]]:
    """Every figure as (name, value, unit)."""
    rounds = int(os.environ.get("FAIRLEAD_CRASH_ROUNDS", "20"))
    return [*_campaign("sqlite", rounds), *_campaign("postgresql", rounds)]


def _campaign(kind: str, rounds: int) -> list[tuple[str, float, str]]:
    chance = random.Random(SEED)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fairlead-crash-")))
        variables = {"FAIRLEAD_RUNS__LIVENESS_INTERVAL_S": "3"}  # the default; tests use less
        if kind == "postgresql":
            server = stack.enter_context(running_postgres())
            variables["FAIRLEAD_DATABASE_URL"] = server.url(server.create())
        product = stack.enter_context(running(folder / "data", **variables))
        waits, hit = [], 0
        recorded: set[str] = set()
        for number in range(rounds):
            waited, struck, ids = _round(product, f"r{number}", chance.random())
            waits += [waited] if waited is not None else []
            hit += struck
            recorded |= ids
        live = _live(product)
    return [
        (f"crash_{kind}_kills", rounds, "kills"),
        (f"crash_{kind}_kills_mid_apply", hit, "kills"),
        (f"crash_{kind}_resources", len(recorded), "resources"),
        (f"crash_{kind}_lost", len(recorded - live), "resources"),
        (f"crash_{kind}_doubled", len(live - recorded), "resources"),
        (f"crash_{kind}_work_goes_on_median", statistics.median(waits), "s"),
        (f"crash_{kind}_work_goes_on_max", max(waits), "s"),
    ]


def _round(product: Product, key: str, chance: float) -> tuple[float | None, bool, set[str]]:
    """Seconds until work went on after the kill, whether it hit mid-apply, and what was recorded."""
    product.project(key, ann="approver", bob="approver")
    ann, bob = product.user("ann"), product.user("bob")
    made = planned(ann, key, _template())
    approve(bob, key, made)
    run_id = ann.post(f"/projects/{key}/plans/{made['number']}/apply")["apply_run_id"]
    # Anywhere between the first call and the last: progress decides, since speed differs between machines.
    target = int(chance * COUNT * 2)
    until(lambda: _nodes(ann, run_id) >= target, f"{target} node events")
    product.kill_worker()
    killed, seen = datetime.now(UTC), _last(ann, run_id)
    struck = ann.get(f"/projects/{key}/plans/{made['number']}")["status"] == "applying"
    ended = settled(ann, key, made["number"])
    assert ended["status"] == "applied", ended["problem"]
    waited = None
    if struck:
        after = [event for event in ann.events(run_id) if event["seq"] > seen]
        waited = (datetime.fromisoformat(after[0]["at"]) - killed).total_seconds()
    ids = {item["id"] for item in ann.get(f"/projects/{key}/resources")["items"]}
    assert len(ids) == COUNT
    return waited, struck, ids


def _template() -> str:
    """40 queues and 20 topics without names; every fourth queue refers to another one."""
    resources: dict[str, Any] = {}
    for number in range(40):
        properties: dict[str, Any] = {"DelaySeconds": number}
        if number % 4 == 3:
            dead = {"Fn::GetAtt": [f"Q{number - 1:02}", "Arn"]}
            properties["RedrivePolicy"] = {"deadLetterTargetArn": dead, "maxReceiveCount": 3}
        resources[f"Q{number:02}"] = {"Type": "AWS::SQS::Queue", "Properties": properties}
    for number in range(20):
        resources[f"T{number:02}"] = {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": f"t{number}"}}
    return json.dumps({"Resources": resources})


def _events(client: Client, run_id: str) -> list[dict[str, Any]]:
    return list(client.get(f"/runs/{run_id}/events", after=0, limit=500)["items"])


def _nodes(client: Client, run_id: str) -> int:
    return sum(event["type"] in ("node.started", "node.succeeded") for event in _events(client, run_id))


def _last(client: Client, run_id: str) -> int:
    return int(_events(client, run_id)[-1]["seq"])


def _live(product: Product) -> set[str]:
    """Everything of the two types that exists, by the services' own word."""
    queues: list[str] = product.aws("sqs").list_queues(MaxResults=1000).get("QueueUrls", [])
    sns, topics, token = product.aws("sns"), [], None
    while True:
        page = sns.list_topics(**({"NextToken": token} if token else {}))
        topics += [topic["TopicArn"] for topic in page["Topics"]]
        token = page.get("NextToken")
        if not token:
            break
    return {*queues, *topics}


if __name__ == "__main__":
    began = time.monotonic()
    for name, value, unit in run():
        print(f"{name} {value:g} {unit}")
    print(f"# {time.monotonic() - began:.0f} s")
