"""The main job as members live it: plan, approve, apply, drift, failure, crash. All parts are real."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from fairlead.cli.client import Client, ServerRefused
from tests.changes.webhook_server import Receiver, receiving
from tests.e2e.product import Product, apply, approve, done, planned, settled, until

Template = dict[str, Any]


def queue(**properties: Any) -> dict[str, Any]:
    return {"Type": "AWS::SQS::Queue", "Properties": properties}


def template(**resources: dict[str, Any]) -> str:
    return json.dumps({"Resources": resources})


def members(product: Product, key: str, **settings: Any) -> tuple[Client, Client]:
    """A new project with an author-and-approver ann and an approver bob."""
    product.project(key, settings, ann="approver", bob="approver")
    return product.user("ann"), product.user("bob")


def refusal(code: str) -> Any:
    return pytest.raises(ServerRefused, check=lambda error: error.body["code"] == code)


def actions(made: dict[str, Any]) -> dict[str, str]:
    return {change["logical_id"]: change["action"] for change in made["document"]["changes"]}


def faults(product: Product, **fault: Any) -> None:
    """Ask the local AWS to misbehave."""
    response = httpx2.put(
        f"{product.about['sandbox_url']}/_fairlead/faults", json={"faults": [fault] if fault else []}
    )
    assert response.status_code < 300, response.text


def test_a_plan_applied_twice_changes_nothing_the_second_time(product: Product) -> None:
    ann, bob = members(product, "twice")
    text = template(
        Dead=queue(),
        Mail=queue(
            RedrivePolicy={"deadLetterTargetArn": {"Fn::GetAtt": ["Dead", "Arn"]}, "maxReceiveCount": 3},
            Tags=[{"Key": "Team", "Value": "blue"}],
        ),
    )
    first = done(ann, bob, "twice", text)
    assert (first["status"], first["state_version"]) == ("applied", 1)
    resources = {item["logical_id"]: item for item in ann.get("/projects/twice/resources")["items"]}
    attributes = product.aws("sqs").get_queue_attributes(
        QueueUrl=resources["Mail"]["id"], AttributeNames=["All"]
    )
    assert (
        json.loads(attributes["Attributes"]["RedrivePolicy"])["deadLetterTargetArn"]
        == resources["Dead"]["arn"]
    )
    chosen: list[tuple[dict[str, str], set[str]]] = [
        ({"type": "AWS::SQS::*"}, {"Dead", "Mail"}),
        ({"type": "AWS::SNS::*"}, set()),
        ({"status": "active", "tag": "Team=blue"}, {"Mail"}),
        ({"tag": "Team"}, {"Mail"}),
        ({"tag": "Team=red"}, set()),
    ]
    for query, names in chosen:
        found = ann.get("/projects/twice/resources", **query)["items"]
        assert {item["logical_id"] for item in found} == names, query
    assert resources["Mail"]["arn"] == attributes["Attributes"]["QueueArn"]  # though nobody refers to it
    assert planned(ann, "twice", text)["status"] == "no_changes"


def test_an_approval_survives_an_identical_plan_and_no_other(product: Product) -> None:
    ann, bob = members(product, "digests")
    text = template(Q=queue(DelaySeconds=1))
    approved = planned(ann, "digests", text)
    approve(bob, "digests", approved)
    again = planned(ann, "digests", text)
    assert (again["status"], again["digest"], again["decided_by"]) == ("approved", approved["digest"], "bob")
    other = planned(ann, "digests", template(Q=queue(DelaySeconds=2)))
    assert other["status"] == "pending"
    with refusal("changes.digest_mismatch"):
        bob.post(f"/projects/digests/plans/{other['number']}/approve", {"digest": approved["digest"]})
    with refusal("changes.not_approved"):
        ann.post(f"/projects/digests/plans/{other['number']}/apply")


def test_a_used_or_withdrawn_approval_is_gone(product: Product) -> None:
    ann, bob = members(product, "used")
    text, empty_again = template(Q=queue()), {"destroy": True, "description": "gone"}
    done(ann, bob, "used", text)
    gone = settled(ann, "used", ann.post("/projects/used/plans", empty_again)["number"])
    approve(bob, "used", gone)
    assert apply(ann, "used", gone)["status"] == "applied"
    # The first plan again, on a later state: the digest is the same, its approval was used.
    made = planned(ann, "used", text)
    assert made["status"] == "pending"
    approve(bob, "used", made)
    bob.post(
        f"/projects/used/plans/{made['number']}/reject",
        {"digest": made["digest"], "comment": "changed my mind"},
    )
    assert planned(ann, "used", text)["status"] == "pending"


def test_the_author_of_a_high_risk_plan_needs_somebody_else(product: Product) -> None:
    ann, bob = members(product, "risky")
    door = {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {
            "GroupDescription": "open",
            "SecurityGroupIngress": [
                {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "0.0.0.0/0"}
            ],
        },
    }
    made = planned(ann, "risky", template(Door=door))
    assert made["risk"] == "HIGH"
    with refusal("changes.own_high_risk"):
        approve(ann, "risky", made)
    assert approve(bob, "risky", made)["decided_by"] == "bob"


def test_an_own_approval_of_a_low_risk_plan_is_enough_but_viewers_and_outsiders_have_none(
    product: Product,
) -> None:
    ann, _ = members(product, "roles")
    product.project("elsewhere", eve="owner", vic="viewer")
    product.user("admin").request("PUT", "/projects/roles/members/vic", body={"role": "viewer"})
    made = planned(ann, "roles", template(Q=queue()))
    with refusal("auth.permission_missing"):
        approve(product.user("vic"), "roles", made)
    with refusal("projects.not_found"):
        approve(product.user("eve"), "roles", made)
    assert approve(ann, "roles", made)["status"] == "approved"


def test_a_rule_of_the_project_approves_what_it_covers(product: Product) -> None:
    rule = {"name": "queues are harmless", "max_risk": "LOW", "types": ["AWS::SQS::*"]}
    ann, _ = members(product, "rules", auto_approval_rules=[rule])
    made = planned(ann, "rules", template(Q=queue()))
    assert (made["status"], made["decided_by"]) == ("approved", "automatic rule")
    assert planned(ann, "rules", template(Q=queue(), T={"Type": "AWS::SNS::Topic"}))["status"] == "pending"


def test_a_plan_nobody_answers_expires_at_its_deadline(product: Product) -> None:
    ann, bob = members(product, "late", approval_deadline_s=1.0)
    made = planned(ann, "late", template(Q=queue()))
    expired = until(
        lambda: (found := ann.get(f"/projects/late/plans/{made['number']}"))["status"] == "expired" and found,
        "expiry",
    )
    with refusal("changes.deadline_passed"):
        approve(bob, "late", expired)


def test_a_plan_is_refused_when_state_or_live_resources_moved(product: Product) -> None:
    ann, bob = members(product, "moved")
    assert done(ann, bob, "moved", template(Q=queue(DelaySeconds=1)))["status"] == "applied"
    made = planned(ann, "moved", template(Q=queue(DelaySeconds=2)))
    approve(bob, "moved", made)
    url = ann.get("/projects/moved/resources")["items"][0]["id"]
    product.aws("sqs").set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "99"})
    stale = apply(ann, "moved", made)
    assert (stale["status"], stale["problem"]["code"]) == ("stale", "changes.plan_stale")
    assert stale["problem"]["details"]["moved"] == [{"logical_id": "Q", "what": "changed outside Fairlead"}]
    # The drift shows in the next plan and is put right.
    again = planned(ann, "moved", template(Q=queue(DelaySeconds=2)))
    [change] = again["document"]["changes"][0]["properties"]
    assert (change["path"], change["after"], change["drift"]) == ("DelaySeconds", 2, True)
    older = planned(ann, "moved", template(Q=queue(DelaySeconds=3)))
    approve(bob, "moved", again)
    approve(bob, "moved", older)
    assert apply(ann, "moved", again)["status"] == "applied"
    late = apply(ann, "moved", older)
    assert late["status"] == "stale"
    assert late["problem"]["details"]["moved"][0]["logical_id"] == "(state)"


def test_a_resource_deleted_by_hand_is_made_again(product: Product) -> None:
    ann, bob = members(product, "deleted")
    text = template(T={"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "deleted-by-hand"}})
    assert done(ann, bob, "deleted", text)["status"] == "applied"
    product.aws("sns").delete_topic(TopicArn=ann.get("/projects/deleted/resources")["items"][0]["id"])
    made = planned(ann, "deleted", text)
    assert actions(made) == {"T": "create"}
    approve(bob, "deleted", made)
    assert apply(ann, "deleted", made)["status"] == "applied"
    assert any("deleted-by-hand" in topic["TopicArn"] for topic in product.aws("sns").list_topics()["Topics"])


def test_a_failed_resource_stops_only_its_descendants_and_the_state_says_so(product: Product) -> None:
    ann, bob = members(product, "partial")
    text = template(
        Fine=queue(QueueName="partial-fine"),
        Bad={"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "partial-bad"}},
        Below={
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Type": "String", "Name": "/partial/below", "Value": {"Ref": "Bad"}},
        },
    )
    made = planned(ann, "partial", text)
    approve(bob, "partial", made)
    faults(product, kind="fail", type="AWS::SNS::Topic", operation="CREATE", error_code="InvalidRequest")
    try:
        ended = apply(ann, "partial", made)
    finally:
        faults(product)
    assert (ended["status"], ended["state_version"]) == ("partially_applied", 1)
    assert [item["logical_id"] for item in ann.get("/projects/partial/resources")["items"]] == ["Fine"]
    types = {event["type"] for event in ann.events(ended["apply_run_id"])}
    assert {"node.failed", "node.skipped", "node.succeeded"} <= types
    assert ended["problem"]["code"] == "changes.apply_failed"
    assert [item["logical_id"] for item in ended["problem"]["details"]["failed"]] == ["Bad"]
    assert ann.get(f"/runs/{ended['apply_run_id']}")["status"] == "failed"
    rest = planned(ann, "partial", text)
    assert actions(rest) == {"Bad": "create", "Below": "create"}
    approve(bob, "partial", rest)
    assert apply(ann, "partial", rest)["status"] == "applied"


def many(count: int, **properties: Any) -> str:
    return template(**{f"Q{number:02}": queue(**properties) for number in range(count)})


def test_two_applies_of_one_project_never_run_at_once(product: Product) -> None:
    ann, bob = members(product, "single")
    first, second = planned(ann, "single", many(12)), planned(ann, "single", many(13))
    for made in (first, second):
        approve(bob, "single", made)
    ann.post(f"/projects/single/plans/{first['number']}/apply")
    with refusal("changes.apply_in_progress"):
        ann.post(f"/projects/single/plans/{second['number']}/apply")
    assert settled(ann, "single", first["number"])["status"] == "applied"


def test_a_killed_workers_apply_goes_on_by_itself_and_makes_nothing_twice(product: Product) -> None:
    ann, bob = members(product, "crash")
    count = 25
    names = {f"Q{number:02}": queue(QueueName=f"crash-{number:02}") for number in range(count)}
    chain = {f"P{number}": _parameter(number) for number in range(4)}
    made = planned(ann, "crash", template(**names, **chain))
    approve(bob, "crash", made)
    run = ann.post(f"/projects/crash/plans/{made['number']}/apply")["apply_run_id"]

    def begun() -> bool:
        events = ann.get(f"/runs/{run}/events", after=0, limit=200)["items"]
        return [event["type"] for event in events].count("node.succeeded") >= 3

    until(begun, "three nodes are done")
    product.kill_worker()
    ended = settled(ann, "crash", made["number"])
    assert (ended["status"], ended["state_version"]) == ("applied", 1)
    queues = product.aws("sqs").list_queues(QueueNamePrefix="crash-")["QueueUrls"]
    assert len(queues) == count
    assert len(ann.get("/projects/crash/resources")["items"]) == count + len(chain)


def _parameter(number: int) -> dict[str, Any]:
    value = {"Ref": f"P{number - 1}"} if number else "first"
    return {
        "Type": "AWS::SSM::Parameter",
        "Properties": {"Type": "String", "Name": f"/crash/{number}", "Value": value},
    }


def test_a_cancelled_apply_finishes_what_it_began_and_records_it(product: Product) -> None:
    ann, bob = members(product, "cancel")
    chain = {
        f"P{n}": {**_parameter(n), "Properties": {**_parameter(n)["Properties"], "Name": f"/cancel/{n}"}}
        for n in range(12)
    }
    made = planned(ann, "cancel", template(**chain))
    approve(bob, "cancel", made)
    faults(product, kind="handler_latency", type="AWS::SSM::Parameter", seconds=0.5, count=0)
    try:
        run = ann.post(f"/projects/cancel/plans/{made['number']}/apply")["apply_run_id"]
        until(
            lambda: any(
                e["type"] == "node.succeeded" for e in ann.get(f"/runs/{run}/events", after=0)["items"]
            ),
            "a node",
        )
        ann.post(f"/projects/cancel/plans/{made['number']}/cancel", {"digest": made["digest"]})
        ended = settled(ann, "cancel", made["number"])
    finally:
        faults(product)
    assert ended["status"] in ("partially_applied", "cancelled")
    recorded = {item["id"] for item in ann.get("/projects/cancel/resources")["items"]}
    live = {
        p["Name"]
        for p in product.aws("ssm").describe_parameters()["Parameters"]
        if p["Name"].startswith("/cancel/")
    }
    assert recorded == live
    assert 0 < len(live) < 12


def test_a_retained_resource_is_forgotten_and_stays(product: Product) -> None:
    ann, bob = members(product, "retain")
    kept = {**queue(QueueName="retain-me"), "DeletionPolicy": "Retain"}
    done(ann, bob, "retain", template(Kept=kept, Gone=queue(QueueName="retain-not")))
    made = settled(ann, "retain", ann.post("/projects/retain/plans", {"destroy": True})["number"])
    approve(bob, "retain", made)
    assert apply(ann, "retain", made)["status"] == "applied"
    assert ann.get("/projects/retain/resources")["items"] == []
    left = [
        url.rsplit("/", 1)[-1]
        for url in product.aws("sqs").list_queues(QueueNamePrefix="retain-")["QueueUrls"]
    ]
    assert left == ["retain-me"]


BAD = [
    pytest.param("Resources: [", "template.invalid", id="malformed YAML"),
    pytest.param(template(X={"Type": "AWS::No::Such"}), "template.invalid", id="unknown type"),
    pytest.param(template(X=queue(NoSuchThing=1)), "template.invalid", id="unknown property"),
    pytest.param(template(X=queue(QueueName={"Ref": "Nobody"})), "template.invalid", id="dangling Ref"),
    pytest.param(
        template(A={**queue(), "DependsOn": "B"}, B={**queue(), "DependsOn": "A"}),
        "template.invalid",
        id="cycle",
    ),
    pytest.param("x" * (20 * 1024 * 1024), "template.too_large", id="20 MB"),
]


@pytest.mark.parametrize(("text", "code"), BAD)
def test_a_bad_template_is_refused_at_once_and_leaves_nothing(product: Product, text: str, code: str) -> None:
    if "bad" not in {item["id"] for item in product.user("admin").get("/projects")["items"]}:
        members(product, "bad")
    ann = product.user("ann")
    began = time.monotonic()
    with refusal(code):
        ann.post("/projects/bad/plans", {"template": text})
    assert time.monotonic() - began < 20
    assert ann.get("/projects/bad/plans")["items"] == []


def test_secret_values_reach_aws_and_nothing_else(product: Product) -> None:
    ann, bob = members(product, "secrets")
    value = "correct-horse-battery-staple-4711"
    text = json.dumps(
        {
            "Parameters": {"Password": {"Type": "String", "NoEcho": True}},
            "Resources": {
                "Db": {
                    "Type": "AWS::RDS::DBInstance",
                    "Properties": {
                        "DBInstanceIdentifier": "secret-db",
                        "Engine": "postgres",
                        "DBInstanceClass": "db.t3.micro",
                        "AllocatedStorage": "20",
                        "MasterUsername": "owner",
                        "MasterUserPassword": {"Ref": "Password"},
                    },
                },
                "P": {
                    "Type": "AWS::SSM::Parameter",
                    "Properties": {
                        "Name": "/secrets/p",
                        "Type": "String",
                        "Value": {"Fn::Sub": "x-${Password}"},
                    },
                },
            },
        }
    )
    assert done(ann, bob, "secrets", text, Password=value)["status"] == "applied"
    assert product.aws("ssm").get_parameter(Name="/secrets/p")["Parameter"]["Value"] == f"x-{value}"
    assert planned(ann, "secrets", text, Password=value)["status"] == "no_changes"
    changed = planned(ann, "secrets", text, Password=value + "2")
    assert actions(changed) == {"Db": "update", "P": "update"}
    assert value not in json.dumps(changed)
    holders = [
        path
        for path in product.data_dir.rglob("*")
        if path.is_file() and "sandbox" not in path.parts and value.encode() in path.read_bytes()
    ]
    assert holders == []


def test_secrets_of_a_resource_in_a_stack_of_its_own_stand_in_no_template(product: Product) -> None:
    ann, bob = members(product, "stacked")
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    grant = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    policy = {
        "PolicyName": {"Fn::Sub": "p-${Secret}"},
        "Roles": [{"Ref": "Role"}],
        "PolicyDocument": {"Version": "2012-10-17", "Statement": [grant]},
    }
    text = json.dumps(
        {
            "Parameters": {"Secret": {"Type": "String", "NoEcho": True}},
            "Resources": {
                "Role": {
                    "Type": "AWS::IAM::Role",
                    "Properties": {
                        "RoleName": "stacked",
                        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]},
                    },
                },
                "Policy": {"Type": "AWS::IAM::Policy", "Properties": policy},
            },
        }
    )
    iam, cloudformation = product.aws("iam"), product.aws("cloudformation")
    for value in ("hush-4711", "hush-4712"):
        assert done(ann, bob, "stacked", text, Secret=value)["status"] == "applied"
        assert iam.list_role_policies(RoleName="stacked")["PolicyNames"] == [f"p-{value}"]
        assert planned(ann, "stacked", text, Secret=value)["status"] == "no_changes"
    [made] = [
        item for item in ann.get("/projects/stacked/resources")["items"] if item["logical_id"] == "Policy"
    ]
    name = made["id"].partition("|")[0]
    template_of = cloudformation.get_template(StackName=name)["TemplateBody"]
    assert "FairleadSecret" in str(template_of)
    assert "hush" not in str(template_of)


def test_every_step_of_a_change_is_in_the_audit_record(product: Product) -> None:
    ann, bob = members(product, "audited")
    assert done(ann, bob, "audited", template(Q=queue()))["status"] == "applied"
    entries = ann.get("/projects/audited/audit")["items"]
    told = [
        (entry["action"], entry["actor"])
        for entry in reversed(entries)
        if entry["action"].startswith("plan.")
    ]
    assert told == [
        ("plan.requested", "ann"),
        ("plan.made", "ann"),
        ("plan.approved", "bob"),
        ("plan.apply_requested", "ann"),
        ("plan.applied", "ann"),
    ]
    assert product.user("admin").get("/audit/verify")["intact"] is True


def test_progress_can_be_read_from_any_sequence_number(product: Product) -> None:
    ann, bob = members(product, "events")
    ended = done(ann, bob, "events", template(A=queue(), B=queue()))
    whole = list(ann.events(ended["apply_run_id"]))
    assert [event["seq"] for event in whole] == list(range(1, len(whole) + 1))
    assert list(ann.events(ended["apply_run_id"], after=3)) == whole[3:]


def test_a_damaged_state_is_reported_and_recovered(product: Product) -> None:
    ann, bob = members(product, "damaged")
    product.user("admin")
    done(ann, bob, "damaged", template(Q=queue(DelaySeconds=1)))
    done(ann, bob, "damaged", template(Q=queue(DelaySeconds=2)))
    head = product.data_dir / "objects" / "projects" / "damaged" / "state" / "v0000002.json"
    head.write_bytes(head.read_bytes()[:-40])
    with refusal("state.corrupted"):
        ann.get("/projects/damaged/state")
    report = ann.post("/projects/damaged/state/verify")
    assert [fault["version"] for fault in report["faults"]] == [2]
    written = product.user("admin").post("/projects/damaged/state/recover")
    assert (written["version"], written["recovered_from"]) == (3, 1)
    # The plan on the recovered state sees what is really there.
    assert planned(ann, "damaged", template(Q=queue(DelaySeconds=2)))["status"] in ("no_changes", "pending")


def test_a_database_is_deleted_only_after_its_last_snapshot_is_there(product: Product) -> None:
    ann, bob = members(product, "last")
    database = {
        "Type": "AWS::RDS::DBInstance",
        "DeletionPolicy": "Snapshot",
        "Properties": {
            "DBInstanceIdentifier": "last-db",
            "Engine": "postgres",
            "DBInstanceClass": "db.t3.micro",
            "AllocatedStorage": "20",
            "MasterUsername": "owner",
            "ManageMasterUserPassword": True,
        },
    }
    assert done(ann, bob, "last", template(Db=database, Q=queue()))["status"] == "applied"
    rds = product.aws("rds")
    made = planned(ann, "last", template(Q=queue()))
    approve(bob, "last", made)
    faults(product, kind="throttle", operation="CreateDBSnapshot", count=0)
    try:
        ended = apply(ann, "last", made)
    finally:
        faults(product)
    [failed] = [event for event in ann.events(ended["apply_run_id"]) if event["type"] == "node.failed"]
    assert failed["data"]["problem"]["code"] == "changes.snapshot_failed"
    assert [item["DBInstanceIdentifier"] for item in rds.describe_db_instances()["DBInstances"]].count(
        "last-db"
    ) == 1
    again = planned(ann, "last", template(Q=queue()))
    assert actions(again) == {"Db": "delete"}
    approve(bob, "last", again)
    ended = apply(ann, "last", again)
    assert ended["status"] == "applied"
    [taken] = [
        event["data"] for event in ann.events(ended["apply_run_id"]) if event["type"] == "node.snapshot"
    ]
    [snapshot] = rds.describe_db_snapshots(DBInstanceIdentifier="last-db")["DBSnapshots"]
    assert (snapshot["DBSnapshotIdentifier"], snapshot["Status"]) == (taken["snapshot"], "available")
    assert "last-db" not in [
        item["DBInstanceIdentifier"] for item in rds.describe_db_instances()["DBInstances"]
    ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def notices(client: Client, project: str, count: int) -> list[dict[str, Any]]:
    """The runs that told of something, once so many have ended."""

    def look() -> list[dict[str, Any]] | None:
        found = client.get(f"/projects/{project}/runs", kind="changes.notify")["items"]
        ended = [run for run in found if run["status"] in ("succeeded", "failed")]
        return ended if len(ended) == count else None

    return list(until(look, f"{count} notices of {project}"))


def test_every_move_of_a_plan_is_posted_and_no_one_without_permission_sees_where_to(
    product: Product, receiver: Receiver
) -> None:
    product.project("told", {"notifications": {"webhook_url": receiver.url}}, ann="approver", bob="approver")
    ann, bob = product.user("ann"), product.user("bob")
    receiver.answers[:] = [503]  # the first post finds a server that is busy
    assert done(ann, bob, "told", template(Q=queue()))["status"] == "applied"
    runs = notices(ann, "told", 4)
    assert {run["status"] for run in runs} == {"succeeded"}
    assert set(receiver.events()) == {"plan.pending", "plan.approved", "plan.applying", "plan.applied"}
    assert len(receiver.bodies) == 5
    assert len(set(receiver.deliveries)) == 4
    assert {body["id"] for body in receiver.bodies} == {run["id"] for run in runs}
    pending = next(body for body in receiver.bodies if body["event"] == "plan.pending")
    assert pending["plan"]["changes"] == {"create": 1}
    shown = ann.get("/projects/told")["settings"]["notifications"]["webhook_url"]
    assert shown.endswith("/****")
    assert (
        product.user("admin").get("/projects/told")["settings"]["notifications"]["webhook_url"]
        == receiver.url
    )
    everything = [ann.get("/projects/told/audit"), runs, [ann.get(f"/runs/{run['id']}") for run in runs]]
    assert "s3cret" not in str(everything)
    assert "s3cret" not in product.log.read_text(errors="replace")


def test_only_the_chosen_events_are_posted_and_a_refusal_stops_nothing(
    product: Product, receiver: Receiver
) -> None:
    chosen = {"webhook_url": receiver.url, "events": ["plan.rejected"]}
    ann, bob = members(product, "chosen", notifications=chosen)
    receiver.answers[:] = [410]
    made = planned(ann, "chosen", template(Q=queue()))
    bob.post(f"/projects/chosen/plans/{made['number']}/reject", {"digest": made["digest"], "comment": "no"})
    (run,) = notices(ann, "chosen", 1)
    assert (run["status"], run["error"]["code"]) == ("failed", "changes.webhook_refused")
    assert receiver.events() == ["plan.rejected"]
    assert receiver.bodies[0]["plan"]["comment"] == "no"
    assert "s3cret" not in str(run)
    approve(bob, "chosen", planned(ann, "chosen", template(Q=queue())))


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        pytest.param({"events": ["plan.done"]}, "changes.notification_unknown", id="an unknown event"),
        pytest.param({"webhook_url": "http://chat.example/x"}, "changes.webhook_address", id="in clear"),
    ],
)
def test_settings_that_can_never_work_are_refused_when_they_are_made(
    product: Product, settings: dict[str, Any], code: str
) -> None:
    with pytest.raises(ServerRefused, check=lambda error: error.body["code"] == code):
        product.project("never", {"notifications": settings})
