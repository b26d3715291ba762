"""One sandbox for the suites that can share it, each with its own account."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.clients import Aws
from tests.sandbox_service import SandboxProcess, start_sandbox

_accounts = (f"{number:012d}" for number in itertools.count(200000000001))


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with start_sandbox(tmp_path_factory.mktemp("shared"), latency_ms=5) as running:
        yield running


@pytest.fixture
def aws(sandbox: SandboxProcess) -> Aws:
    """An account of its own in the shared sandbox."""
    return Aws(sandbox.aws(next(_accounts)))


@pytest.fixture
def own_sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    """A sandbox that the test may kill."""
    with start_sandbox(tmp_path) as running:
        yield running
