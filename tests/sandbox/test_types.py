"""Every type through its whole life, with the service itself as the witness."""

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.cases import CASES, Case, World
from tests.sandbox.clients import Aws
from tests.sandbox_service import SandboxProcess

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "sandbox.md"


@pytest.fixture(scope="module")
def world(sandbox: SandboxProcess) -> World:
    return World(Aws(sandbox.aws("199999999999")))


def missing(part: Any, whole: Any, path: str = "") -> list[str]:
    """Where `whole` lacks what `part` has."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return [
            fault
            for name in part
            for fault in missing(part[name], whole.get(name, "<absent>"), f"{path}/{name}")
        ]
    return [] if part == whole else [f"{path}: {part!r} is not {whole!r}"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.type_name.removeprefix("AWS::"))
def test_a_type_lives_its_whole_life_and_its_service_agrees(world: World, case: Case) -> None:
    aws, desired = world.aws, case.desired(world)
    identifier = aws.create(case.type_name, desired)
    try:
        assert missing(case.created(world), case.native(world, identifier)) == []
        live = aws.get(case.type_name, identifier)
        assert {name for name in desired if name not in live} == case.hidden
        assert missing({name: desired[name] for name in desired if name in live}, live) == []
        assert identifier in aws.identifiers(case.type_name)
        if case.patch is not None and case.updated is not None:
            event = aws.update(case.type_name, identifier, *case.patch(world))
            assert event["OperationStatus"] == "SUCCESS", event
            assert event["Identifier"] == identifier
            assert missing(case.updated(world), case.native(world, identifier)) == []
    finally:
        event = aws.delete(case.type_name, identifier)
    assert event["OperationStatus"] == "SUCCESS", event
    assert case.native(world, identifier) is None
    assert identifier not in aws.identifiers(case.type_name)
    with pytest.raises(ClientError) as refusal:
        aws.get(case.type_name, identifier)
    assert refusal.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_every_type_that_the_sandbox_offers_is_tested(world: World) -> None:
    offered = world.aws.admin("GET", "/_fairlead/types")[1]["types"]
    assert sorted(offered) == sorted(case.type_name for case in CASES)


def test_the_reference_lists_every_type_with_its_verbs(world: World) -> None:
    offered = world.aws.admin("GET", "/_fairlead/types")[1]["types"]
    updated = {case.type_name for case in CASES if case.patch}
    expected = [f"| `{name}` | {_verbs(name in updated)} |" for name in sorted(offered)]
    listed = [line for line in REFERENCE.read_text("utf-8").splitlines() if line.startswith("| `AWS::")]
    assert listed == expected


def _verbs(updates: bool) -> str:
    return "create, get, update, delete, list" if updates else "create, get, delete, list"
