"""One clean synthetic case per test process, and what is read from it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.cases import faults, machine, rules
from fairlead.cases.generate import Written
from fairlead.cases.machine import Machine, Room
from fairlead.cases.model import Plan, Volume
from fairlead.cases.rules import Examined


@pytest.fixture(scope="session")
def machines() -> Machine:
    """The synthetic rooms."""
    return machine.load()


@pytest.fixture(scope="session")
def room(machines: Machine) -> Room:
    """Room G1."""
    return machines.room("G1")


@pytest.fixture(scope="session")
def clean(machines: Machine, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A case without a fault as it was written: read only."""
    return faults.generate_case(tmp_path_factory.mktemp("cases") / "clean", machines)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where results of the engine are kept for whoever asks for the same again."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="session")
def clean_case(clean: Written) -> Path:
    """Its folder: read only."""
    return clean.folder


@pytest.fixture(scope="session")
def examined(clean_case: Path, machines: Machine) -> Examined:
    """What the rules find in the clean case."""
    return rules.examine(clean_case, machines)


@pytest.fixture(scope="session")
def plan(examined: Examined) -> Plan:
    """The plan of the clean case."""
    assert examined.plan is not None
    return examined.plan


@pytest.fixture(scope="session")
def ct(examined: Examined) -> Volume:
    """The CT of the clean case."""
    assert examined.ct is not None
    return examined.ct


@pytest.fixture
def case(clean_case: Path, tmp_path: Path) -> Path:
    """A copy of the clean case, to be damaged."""
    copy = tmp_path / "case"
    shutil.copytree(clean_case, copy)
    return copy


@pytest.fixture
def rules_broken_by(case: Path, machines: Machine) -> Callable[[], list[tuple[str, str, str]]]:
    """Rule, file and field of everything wrong with `case` now."""

    def found() -> list[tuple[str, str, str]]:
        return [(v.rule, v.file, v.field) for v in rules.examine(case, machines).violations]

    return found
