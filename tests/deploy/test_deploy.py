"""Deploying on one machine for real: a Git remote, installed releases, a service, its health, a way back."""

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services import free_port, missing

CHECKOUT = Path(__file__).parents[2]
SCRIPTS = (*CHECKOUT.glob("scripts/*.sh"), *CHECKOUT.glob("requirements/*.sh"), CHECKOUT / ".ci/run")
UNITS = sorted((CHECKOUT / "deploy/systemd").iterdir())


def require(program: str) -> str:
    return shutil.which(program) or missing(program)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@dataclass
class Machine:
    """One machine with a checkout, whose `origin` developers push to."""

    root: Path
    origin: Path
    port: int

    def commit(self, path: str, before: str, after: str) -> str:
        """Change the first `before` in a file of the origin to `after`; the commit."""
        text = (self.origin / path).read_text()
        assert before in text
        (self.origin / path).write_text(text.replace(before, after, 1))
        git(self.origin, "commit", "--quiet", "--all", "--message", after)
        return git(self.origin, "rev-parse", "HEAD")

    def deploy(self, *arguments: str, health_s: int = 180) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.root / "repo/scripts/deploy.sh", *arguments],
            env={
                **os.environ,
                "DEPLOY_ROOT": str(self.root),
                "DEPLOY_SYSTEMCTL": str(CHECKOUT / "tests/deploy/systemctl.sh"),
                "DEPLOY_HEALTH_URL": f"http://127.0.0.1:{self.port}/health",
                "DEPLOY_HEALTH_S": str(health_s),
                "DEPLOY_KEEP_RELEASES": "1",
                "DEPLOY_TEST_PORT": str(self.port),
            },
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    @property
    def current(self) -> str:
        return (self.root / "current").resolve().name

    @property
    def title(self) -> str:
        """What the running service says of itself."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/openapi.json", timeout=60) as answer:
            return str(json.load(answer)["info"]["title"])


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("machine")
    origin = root / "origin"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (CHECKOUT / name).is_file():
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, origin / name)
    git(origin, "init", "--quiet", "--initial-branch=main")
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message", "first")
    git(root, "clone", "--quiet", str(origin), "repo")
    found = Machine(root=root, origin=origin, port=free_port())
    yield found
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((root / "serve.pid").read_text()), signal.SIGKILL)
    shutil.rmtree(root, ignore_errors=True)


def test_a_release_that_is_not_healthy_is_taken_back_by_itself(machine: Machine) -> None:
    first = git(machine.origin, "rev-parse", "HEAD")
    done = machine.deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (machine.current, machine.title) == (first, "Fairlead")

    second = machine.commit("src/fairlead/api/app.py", 'title="Fairlead"', 'title="Fairlead two"')
    done = machine.deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (machine.current, machine.title) == (second, "Fairlead two")

    broken = machine.commit("src/fairlead/compose.py", "import asyncio", "import no_such_module")
    done = machine.deploy(health_s=20)  # that a broken one is given; one that comes back is given more
    assert done.returncode == 1
    assert f"rolled back: {second} is in service and healthy; {broken} was not" in done.stderr
    assert (machine.current, machine.title) == (second, "Fairlead two")

    machine.commit("requirements/dev.txt", "==", "==999.")
    done = machine.deploy()
    assert done.returncode == 1
    assert "cannot be installed; nothing was switched" in done.stderr
    assert (machine.current, machine.title) == (second, "Fairlead two")

    done = machine.deploy("--rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (machine.current, machine.title) == (first, "Fairlead")


def test_a_wrong_name_changes_nothing(machine: Machine) -> None:
    for argument, said in (("no-such-branch", "there is no commit"), ("--nonsense", "unknown option")):
        done = machine.deploy(argument)
        assert done.returncode == 1
        assert said in done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_pass_shellcheck(script: Path) -> None:
    done = subprocess.run([require("shellcheck"), script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_are_what_systemd_expects(unit: Path, tmp_path: Path) -> None:
    # The program that they start is not where it will be; everything else must hold.
    text = unit.read_text().replace("/opt/fairlead/current/.venv/bin/fairlead", "/bin/true")
    for other in UNITS:
        shutil.copy2(other, tmp_path / other.name)
    (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        [require("systemd-analyze"), "verify", "--recursive-errors=no", tmp_path / unit.name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_image_is_built_from_files_that_are_there() -> None:
    lines = (CHECKOUT / "deploy/docker/Dockerfile").read_text().splitlines()
    copied = [
        word
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    allowed = {line.removeprefix("!") for line in (CHECKOUT / ".dockerignore").read_text().split()}
    assert copied
    assert all((CHECKOUT / name).exists() and name in allowed for name in copied)
