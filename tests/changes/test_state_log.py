"""Commits, lost answers, crashes and rollback of the state log."""

import asyncio
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import pytest
from pydantic import SecretStr

from fairlead.changes.model import Recorded, Unknown, Via
from fairlead.changes.state import (
    ResourceStatus,
    Sealing,
    StateBusy,
    StateInvalid,
    StateLog,
    StateMoved,
    StateVersionMissing,
    state_resource,
)
from fairlead.kernel.objects import ObjectExists, ObjectStore, ObjectsUnavailable, open_objects
from tests.changes.state_factory import NOW, resource, snapshot


class Unreliable(ObjectStore):
    """A store whose next creates go wrong as told: the answer is lost, or S3 answers 409 for nothing."""

    def __init__(self, *, lost_answers: int = 0, conflicts: int = 0) -> None:
        self.__dict__.update(vars(open_objects("memory://")))
        self.lost_answers = lost_answers
        self.conflicts = conflicts
        self.creates = 0

    async def put_new(self, key: str, data: bytes) -> None:
        self.creates += 1
        if self.conflicts:
            self.conflicts -= 1
            raise ObjectExists("a conditional request is under way", key=key)
        await super().put_new(key, data)
        if self.lost_answers:
            self.lost_answers -= 1
            raise ObjectsUnavailable("the answer was lost")


def state_file(store: ObjectStore, version: int) -> dict[str, object]:
    content = asyncio.run(store.get(f"projects/web/state/v{version:07d}.json"))
    found: dict[str, object] = json.loads(content)
    return found


def test_a_version_holds_every_field_of_the_state_file() -> None:
    store = open_objects("memory://")
    log = StateLog(store, "web")
    written = snapshot(
        resource("Web", arn="arn:aws:ec2:eu-central-1:1:instance/i-web", depends_on=("Net",)),
        plan_id="plan-456",
        run_id="run-7",
        plan_digest="d" * 64,
    )
    asyncio.run(log.commit(0, written, "n1"))
    found = state_file(store, 1)
    assert {name: found[name] for name in ("version", "projectId", "timestamp", "metadata")} == {
        "version": "1.0.0",
        "projectId": "web",
        "timestamp": "2026-03-01T12:00:00Z",
        "metadata": {
            "lastModifiedBy": "ann",
            "changeDescription": "a change",
            "changePlanId": "plan-456",
        },
    }
    assert found["resources"] == [
        {
            "id": "i-web",
            "logicalId": "Web",
            "type": "AWS::EC2::Instance",
            "name": "Web",
            "arn": "arn:aws:ec2:eu-central-1:1:instance/i-web",
            "region": "eu-central-1",
            "properties": {"ImageId": "ami-1", "Tags": [{"Key": "Name", "Value": "Web"}]},
            "observed": {"InstanceId": "i-web", "PrivateIp": "10.0.0.1"},
            "tags": {"Name": "Web"},
            "status": "active",
            "createdAt": "2026-03-01T12:00:00Z",
            "updatedAt": "2026-03-01T12:00:00Z",
            "dependsOn": ["Net"],
            "deletionPolicy": "Delete",
            "updateReplacePolicy": "Delete",
            "via": "cloudcontrol",
            "superseded": False,
        }
    ]
    header = found["fairlead"]
    assert isinstance(header, dict)
    assert {
        name: header[name] for name in ("version", "previous_sha256", "run_id", "plan_digest", "nonce")
    } == {
        "version": 1,
        "previous_sha256": None,
        "run_id": "run-7",
        "plan_digest": "d" * 64,
        "nonce": "n1",
    }


async def test_equal_states_have_equal_bytes_whatever_the_order_they_were_given_in() -> None:
    stores = open_objects("memory://"), open_objects("memory://")
    one = resource("A", properties={"X": 1, "Y": {"P": 1, "Q": 2}})
    other = resource("A", properties={"Y": {"Q": 2, "P": 1}, "X": 1})
    await StateLog(stores[0], "web").commit(0, snapshot(one, resource("B")), "n")
    await StateLog(stores[1], "web").commit(0, snapshot(resource("B"), other), "n")
    contents = [await store.get("projects/web/state/v0000001.json") for store in stores]
    assert contents[0] == contents[1]


async def test_a_commit_on_an_old_base_is_refused_and_names_who_was_first() -> None:
    store = open_objects("memory://")
    await StateLog(store, "web").commit(0, snapshot(resource("A"), actor="bob", description="grow"), "n1")
    with pytest.raises(StateMoved) as error:
        await StateLog(store, "web").commit(0, snapshot(resource("B")), "n2")
    assert (error.value.code, error.value.status, error.value.retryable) == ("state.moved", 409, False)
    assert "bob" in error.value.message
    assert "grow" in error.value.message
    assert error.value.details["newest_version"] == 1


async def test_a_commit_on_a_base_that_does_not_exist_is_refused() -> None:
    with pytest.raises(StateMoved):
        await StateLog(open_objects("memory://"), "web").commit(3, snapshot(resource("A")), "n1")


async def test_a_zombie_cannot_write_into_a_hole_of_the_history() -> None:
    store = open_objects("memory://")
    log, zombie = StateLog(store, "web"), StateLog(store, "web")
    await log.commit(0, snapshot(resource("A")), "n1")
    await zombie.current()
    for base in (1, 2):
        await log.commit(base, snapshot(resource("A")), f"n{base + 1}")
    await store.delete("projects/web/state/v0000002.json")
    with pytest.raises(Exception, match="missing although later versions exist"):
        await zombie.commit(1, snapshot(resource("Z")), "z")
    assert [info.key[-6:-5] for info in await store.list("projects/web/state")] == ["1", "3"]


async def test_a_lost_answer_is_found_out_by_repeating_the_same_commit() -> None:
    store = Unreliable(lost_answers=1)
    log = StateLog(store, "web")
    with pytest.raises(ObjectsUnavailable):
        await log.commit(0, snapshot(resource("A")), "n1")
    again = await log.commit(0, snapshot(resource("A")), "n1")
    assert (again.version, again.nonce) == (1, "n1")
    assert store.creates == 1
    assert await StateLog(store, "web").head() == again


async def test_repeating_a_commit_is_harmless_even_when_others_have_written_since() -> None:
    store = open_objects("memory://")
    first = await StateLog(store, "web").commit(0, snapshot(resource("A")), "n1")
    await StateLog(store, "web").commit(1, snapshot(resource("B")), "n2")
    assert await StateLog(store, "web").commit(0, snapshot(resource("A")), "n1") == first


async def test_a_conflict_without_an_object_is_waited_out() -> None:
    store = Unreliable(conflicts=3)
    assert (await StateLog(store, "web").commit(0, snapshot(resource("A")), "n1")).version == 1
    assert store.creates == 4


async def test_endless_conflicts_end_with_an_error_and_no_version() -> None:
    store = Unreliable(conflicts=1000)
    with pytest.raises(StateBusy) as error:
        await StateLog(store, "web").commit(0, snapshot(resource("A")), "n1")
    assert (error.value.status, error.value.retryable) == (503, True)
    assert await StateLog(store, "web").latest() == 0


async def test_history_comes_in_pages_newest_first() -> None:
    store = open_objects("memory://")
    log = StateLog(store, "web")
    written = [await log.commit(base, snapshot(description=f"c{base}"), f"n{base}") for base in range(7)]
    newest = await StateLog(store, "web").history(limit=3)
    assert [entry.about for entry in newest] == written[6:3:-1]
    older = await StateLog(store, "web").history(limit=3, before=newest[-1].version)
    assert [entry.about for entry in older] == written[3:0:-1]
    assert [entry.version for entry in await log.history(limit=3, before=2)] == [1]
    assert await log.history(limit=3, before=1) == []


async def test_a_header_larger_than_what_is_read_first_is_still_found() -> None:
    log = StateLog(open_objects("memory://"), "web")
    await log.commit(0, snapshot(resource("A"), description='long "resources":[ ' * 2000), "n1")
    await log.commit(1, snapshot(resource("A")), "n2")
    oldest = (await log.history())[-1]
    assert oldest.about is not None
    assert len(oldest.about.description) == 38000


@pytest.mark.parametrize("hint", [b"1", b"64", b"99999", b"nonsense", b"", b"9" * 40], ids=str)
async def test_a_wrong_hint_costs_time_and_nothing_else(hint: bytes) -> None:
    store = open_objects("memory://")
    log = StateLog(store, "web")
    for base in range(3):
        await log.commit(base, snapshot(resource("A")), f"n{base}")
    await store.put("projects/web/state/HEAD", hint)
    assert await StateLog(store, "web").latest() == 3


async def test_a_long_history_leaves_a_hint_where_to_begin_listing() -> None:
    store = open_objects("memory://")
    log = StateLog(store, "web")
    for base in range(65):
        await log.commit(base, snapshot(), f"n{base}")
    assert await store.get("projects/web/state/HEAD") == b"64"
    head = await StateLog(store, "web").head()
    assert head is not None
    assert head.version == 65


async def test_projects_do_not_see_each_other() -> None:
    store = open_objects("memory://")
    await StateLog(store, "web").commit(0, snapshot(resource("A")), "n1")
    for other in ("we", "web2", "we.b"):
        assert await StateLog(store, other).head() is None


async def test_a_project_can_have_its_own_place_in_the_store() -> None:
    store = open_objects("memory://")
    placed = StateLog(store, "web", prefix="team-a/prod")
    await placed.commit(0, snapshot(resource("A")), "n1")
    assert await StateLog(store, "web").head() is None
    assert [info.key for info in await store.list("team-a/prod")] == [
        "team-a/prod/projects/web/state/v0000001.json"
    ]


@pytest.mark.parametrize("project", ["", "..", "a/b", "../web", ".web", "a b", "x" * 200])
def test_a_project_that_cannot_be_a_folder_is_refused(project: str) -> None:
    with pytest.raises(StateInvalid):
        StateLog(open_objects("memory://"), project)


async def test_a_version_that_was_never_written_is_not_found() -> None:
    log = StateLog(open_objects("memory://"), "web")
    for version in (-1, 0, 1, 10**7):
        with pytest.raises(StateVersionMissing) as error:
            await log.read(version)
        assert error.value.status == 404


@pytest.mark.parametrize(
    "resources",
    [
        (resource("A"), resource("A", id="i-other")),
        (resource("A"), resource("B", id="i-a")),
        (resource("A", properties={"X": [float("nan")]}),),
        (resource("A", properties={"X": Unknown("Ref Vpc")}),),
        (resource("A", observed={"X": {1: "one"}}),),
        (resource("A", properties={"X": "\ud800"}),),
    ],
    ids=["one logical id twice", "one thing twice", "no number", "not known yet", "a key no text", "no text"],
)
async def test_resources_that_cannot_be_recorded_are_refused(resources: tuple[object, ...]) -> None:
    log = StateLog(open_objects("memory://"), "web")
    with pytest.raises(StateInvalid):
        await log.commit(0, snapshot(*resources), "n1")  # type: ignore[arg-type]
    assert await log.latest() == 0


async def test_a_replaced_resource_that_is_still_there_is_recorded_beside_its_successor() -> None:
    log = StateLog(open_objects("memory://"), "web")
    old = resource("A", id="i-old", status=ResourceStatus.DELETING, superseded=True)
    await log.commit(0, snapshot(resource("A", id="i-new"), old), "n1")
    state = await log.read(1)
    assert {each.id for each in state.resources} == {"i-new", "i-old"}
    assert state.recorded()["A"].identifier == "i-new"


async def test_a_recorded_resource_comes_back_as_it_was() -> None:
    recorded = Recorded(
        logical_id="Bucket",
        type="AWS::S3::Bucket",
        identifier="logs-1",
        properties={"BucketName": "logs-1", "Tags": [{"Key": "env", "Value": "prod"}]},
        observed={"BucketName": "logs-1", "Arn": "arn:aws:s3:::logs-1"},
        depends_on=("Key",),
        deletion_policy="Retain",
        update_replace_policy="Snapshot",
        via=Via.CLOUDFORMATION,
    )
    entry = state_resource(
        recorded, region="eu-central-1", status=ResourceStatus.ACTIVE, created_at=NOW, updated_at=NOW
    )
    assert (entry.name, entry.arn, entry.tags) == ("logs-1", "arn:aws:s3:::logs-1", {"env": "prod"})
    log = StateLog(open_objects("memory://"), "web")
    await log.commit(0, snapshot(entry), "n1")
    assert (await log.read(1)).recorded() == {"Bucket": recorded}


async def test_rolling_back_is_a_new_version_that_equals_an_old_one() -> None:
    log = StateLog(open_objects("memory://"), "web")
    await log.commit(0, snapshot(resource("A")), "n1")
    await log.commit(1, snapshot(resource("B")), "n2")
    back = await log.commit(2, await log.snapshot_of(1, actor="bob", timestamp=NOW), "n3")
    assert (back.version, back.actor, back.description) == (3, "bob", "Rolled back to version 1")
    assert (await log.read(3)).resources == (await log.read(1)).resources
    assert (await log.verify()).intact


async def test_secret_values_never_reach_the_store_and_still_show_a_change() -> None:
    store = open_objects("memory://")
    sealing = Sealing(SecretStr("key"), lambda each: ["/properties/Password", "/properties/Users/*/Secret"])
    log = StateLog(store, "web", sealing=sealing)
    for base, word in enumerate(("hunter2", "hunter2", "correct horse")):
        secret = {"Password": word, "Users": [{"Name": "u", "Secret": word}], "Plain": "seen"}
        await log.commit(base, snapshot(resource("A", properties=secret, observed=secret)), f"n{base}")
    contents = [await store.get(f"projects/web/state/v000000{version}.json") for version in (1, 2, 3)]
    assert not any(b"hunter2" in content or b"correct horse" in content for content in contents)
    assert all(b"seen" in content for content in contents)
    one, same, changed = [(await log.read(version)).resources[0].properties for version in (1, 2, 3)]
    assert one == same
    assert one["Password"] != changed["Password"]
    assert one["Users"][0]["Secret"] != changed["Users"][0]["Secret"]
    assert one["Password"] != one["Users"][0]["Secret"]  # one password in two places does not show
    again = await log.commit(3, await log.snapshot_of(3, actor="ann", timestamp=NOW), "n9")
    assert (await log.read(again.version)).resources[0].properties == changed  # sealed once, not twice


def test_a_worker_killed_while_it_commits_leaves_the_old_head_or_the_new_one(tmp_path: Path) -> None:
    url = tmp_path.as_uri()
    script = """
    import asyncio, sys
    from fairlead.changes.state import StateLog
    from fairlead.kernel.objects import open_objects
    from tests.changes.state_factory import resource, snapshot
    log = StateLog(open_objects(sys.argv[1]), "web")
    big = [resource(f"R{n}", properties={"Pad": "x" * 4000}) for n in range(500)]
    async def main():
        while True:
            base = await log.latest()
            print("base", base, flush=True)
            await log.commit(base, snapshot(*big), f"n{base}")
    asyncio.run(main())
    """
    for round_ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), url],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        ) as process:
            assert process.stdout is not None
            lines = (line for line in process.stdout if line.startswith(b"base "))  # the log is there too
            next(lines)
            said = int(next(lines).split()[1])
            time.sleep(0.007 * round_)  # not a wait: the moment of the kill
            process.kill()
            said = max([said, *(int(line.split()[1]) for line in lines)])
        report = asyncio.run(StateLog(open_objects(url), "web").verify())
        assert report.faults == ()
        assert report.head in (said, said + 1)


async def test_decoding_leaves_the_collector_as_it_was() -> None:
    import gc

    log = StateLog(open_objects("memory://"), "web")
    await log.commit(0, snapshot(*(resource(f"R{n}") for n in range(50))), "n1")
    await asyncio.gather(*(log.read(1) for _ in range(20)))
    assert gc.isenabled()


def test_state_resources_cannot_be_changed_in_place() -> None:
    with pytest.raises(AttributeError):
        resource("A").id = "other"  # type: ignore[misc]
    assert msgspec.structs.replace(resource("A"), id="other").id == "other"
