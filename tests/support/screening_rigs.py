"""Each engine as the contract suite drives it: how it is made, and what it calls what the account holds."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fairlead.support.screenings import ENGINES
from fairlead.support.screenings.port import ScreeningEngine, Workshop
from fairlead.support.screenings.service_screener.engine import ServiceScreenerScreening
from tests.support.reached import WORKSHOP, local_account

FAKE = Path(__file__).with_name("fake_service_screener")


def fake_checkout(folder: Path, **behaviour: Any) -> Path:
    """A checkout of the program that behaves like service-screener; it bears witness in `witness.jsonl`."""
    shutil.copytree(FAKE, folder)
    (folder / "behaviour.json").write_text(
        json.dumps({"witness": str(folder.parent / "witness.jsonl"), **behaviour})
    )
    return folder


def witnessed(folder: Path) -> list[dict[str, Any]]:
    """What the program of `folder` has borne witness of."""
    lines = (folder.parent / "witness.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@dataclass(frozen=True)
class Rig:
    """One engine in a folder of its own."""

    kind: type[ScreeningEngine]
    folder: Path
    failed: frozenset[tuple[str, str]]  # (type, name) of what has to be found in the seeded account

    @property
    def name(self) -> str:
        return self.kind.name

    @property
    def is_program(self) -> bool:
        """Whether it starts a program of its own."""
        return self.name != "builtin"

    def workshop(self) -> Workshop:
        if self.kind is not ServiceScreenerScreening:
            return replace(WORKSHOP, work_dir=self.folder)
        tree = self.folder / "checkout"
        return replace(
            WORKSHOP, service_screener=tree if tree.exists() else fake_checkout(tree), work_dir=self.folder
        )

    def engine(self, url: str, account: str, attempts: int = 2) -> ScreeningEngine:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return self.kind(local_account(url, account, home, attempts=attempts), self.workshop())


_TYPES = {
    "builtin": ("AWS::S3::Bucket", "AWS::EC2::SecurityGroup", "AWS::SQS::Queue"),
    "prowler": ("AwsS3Bucket", "AwsEc2SecurityGroup", "AwsSqsQueue"),
    "service-screener": ("s3:Bucket", "ec2:SG", "sqs:Queue"),
}


def rigs() -> dict[str, Callable[[Path], Rig]]:
    """One of each engine."""

    def made(kind: type[ScreeningEngine]) -> Callable[[Path], Rig]:
        names = ("acme-public", "acme-open", "acme-open")
        return lambda folder: Rig(kind, folder, frozenset(zip(_TYPES[kind.name], names, strict=True)))

    return {kind.name: made(kind) for kind in ENGINES}


_elsewhere: set[int] = set()


@pytest.fixture
def others_left_alone() -> None:
    """What runs when a test begins, servers of other tests among it, is not of its making."""
    _elsewhere.clear()
    _elsewhere.update(_under_us())


def children(*others: int) -> dict[int, bytes]:
    """Command line of every process that this test has started, by pid, but for those under `others`.

    What a server of another test starts meanwhile is not of its making either.
    """
    return _under_us(*others, *_elsewhere)


def none_left(*others: int) -> bool:
    """Whether all `children` end: who was killed may need a moment for it."""
    deadline = time.monotonic() + 60
    while children(*others):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _under_us(*others: int) -> dict[int, bytes]:
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if state != "Z":
            parents[int(status.parent.name)] = int(parent)
    found = {}
    for pid in parents:
        line = [pid]
        while line[-1] in parents and line[-1] != os.getpid():
            line.append(parents[line[-1]])
        if line[-1] == os.getpid() and len(line) > 1 and not set(others) & set(line):
            try:
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
    return found
