"""The same code on PostgreSQL, with state in S3 and two workers: what one leaves, the other goes on with."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from fairlead.cli.server import SANDBOX_ACCOUNT
from tests.e2e.product import Product, approve, environment, planned, running, settled, until
from tests.sandbox_service import start_sandbox
from tests.services import Postgres


@contextmanager
def second_worker(product: Product, variables: dict[str, str]) -> Iterator[None]:
    """Another worker on the same database, object store and AWS."""
    aws = {
        "FAIRLEAD_AWS__ENDPOINT_URL": product.about["sandbox_url"],
        "FAIRLEAD_AWS__ACCESS_KEY_ID": SANDBOX_ACCOUNT,
        "FAIRLEAD_AWS__SECRET_ACCESS_KEY": "sandbox",
    }
    with (product.data_dir / "worker-2.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fairlead.cli.main", "worker", "--until-eof"],
            stdin=subprocess.PIPE,
            stderr=log,
            env=environment(product.data_dir, **variables, **aws),
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def test_the_other_worker_takes_over_and_nothing_is_made_twice(postgres: Postgres, tmp_path: Path) -> None:
    with start_sandbox(tmp_path / "store") as store:
        boto3.client("s3", **store.aws()).create_bucket(Bucket="fairlead-state")
        variables = {
            "FAIRLEAD_DATABASE_URL": postgres.url(postgres.create()),
            "FAIRLEAD_OBJECTS__URL": "s3://fairlead-state/team",
            "FAIRLEAD_OBJECTS__ENDPOINT_URL": store.endpoint_url,
            "FAIRLEAD_OBJECTS__REGION": "us-east-1",
            "FAIRLEAD_OBJECTS__ACCESS_KEY_ID": SANDBOX_ACCOUNT,
            "FAIRLEAD_OBJECTS__SECRET_ACCESS_KEY": "sandbox",
        }
        with running(tmp_path / "data", **variables) as product, second_worker(product, variables):
            product.project("pair", ann="approver", bob="approver")
            ann, bob = product.user("ann"), product.user("bob")
            resources: dict[str, Any] = {f"Q{n:02}": {"Type": "AWS::SQS::Queue"} for n in range(20)}
            made = planned(ann, "pair", json.dumps({"Resources": resources}))
            approve(bob, "pair", made)
            run = ann.post(f"/projects/pair/plans/{made['number']}/apply")["apply_run_id"]
            until(lambda: "node.started" in _types(ann, run), "the apply begins")
            product.kill_worker()
            ended = settled(ann, "pair", made["number"])
            assert (ended["status"], ended["state_version"]) == ("applied", 1), ended["problem"]
            state = ann.get("/projects/pair/state")
            assert state["address"] == "s3://fairlead-state/team/projects/pair/state/v0000001.json"
            recorded = {item["id"] for item in state["resources"]}
            assert recorded == set(product.aws("sqs").list_queues()["QueueUrls"])
            assert len(recorded) == len(resources)


def _types(client: Any, run: str) -> list[str]:
    return [event["type"] for event in client.get(f"/runs/{run}/events", after=0)["items"]]
