"""The product as a user runs it: `fairlead serve --sandbox` in real processes, reached over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from fairlead.cli.client import Client, Credentials
from fairlead.cli.server import SANDBOX_ACCOUNT
from tests.sandbox_service import toolenvs

DEADLINE_S = 180.0


@dataclass
class Product:
    """A running server with its worker and local AWS."""

    about: dict[str, Any]
    data_dir: Path
    log: Path
    clients: dict[str, Client] = field(default_factory=dict)

    def login(self, username: str, password: str) -> Client:
        client = Client(Credentials(self.about["url"]), keep=False)
        body = {"username": username, "password": password}
        session = client.request("POST", "/sessions", body=body, auth=False)
        return Client(
            Credentials(self.about["url"], session["access_token"], session["refresh_token"]), keep=False
        )

    def user(self, name: str) -> Client:
        """A client of this user, who is created on first use; `admin` is the administrator."""
        if name not in self.clients:
            if name == "admin":
                self.clients[name] = self.login("admin", self.about["password"])
            else:
                password = f"{name}-has-a-long-password"
                self.user("admin").post(
                    "/users", {"username": name, "display_name": name, "password": password}
                )
                self.clients[name] = self.login(name, password)
        return self.clients[name]

    def project(self, key: str, settings: dict[str, Any] | None = None, **roles: str) -> str:
        """A new project whose members have these roles."""
        self.user("admin").post("/projects", {"id": key, "name": key, "settings": settings or {}})
        for name, role in roles.items():
            self.user(name)
            self.user("admin").request("PUT", f"/projects/{key}/members/{name}", body={"role": role})
        return key

    def aws(self, service: str) -> Any:
        """A client of the local AWS's own service API."""
        return boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=self.about["sandbox_url"],
            aws_access_key_id=SANDBOX_ACCOUNT,
            aws_secret_access_key="sandbox",
        )

    def worker_pid(self) -> int:
        """The worker that works now: the newest child of the server that runs `worker`."""
        children = subprocess.run(
            ["ps", "--ppid", str(self.about["pid"]), "-o", "pid=,args="], capture_output=True, text=True
        )
        return max(int(line.split()[0]) for line in children.stdout.splitlines() if " worker" in line)

    def kill_worker(self) -> None:
        os.kill(self.worker_pid(), signal.SIGKILL)


def environment(data_dir: Path, **variables: str) -> dict[str, str]:
    """That of a process of the product: nothing of the caller's own settings."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")},
        "FAIRLEAD_DATA_DIR": str(data_dir),
        "FAIRLEAD_TOOLENV_DIR": str(toolenvs()),
        "FAIRLEAD_LOG_FORMAT": "text",
        "FAIRLEAD_RUNS__LIVENESS_INTERVAL_S": "0.5",
        **variables,
    }


@contextmanager
def running(data_dir: Path, **variables: str) -> Iterator[Product]:
    """The product until the block ends. `variables` are settings by their environment names."""
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "serve.log"
    command = [
        sys.executable,
        "-m",
        "fairlead.cli.main",
        "serve",
        "--sandbox",
        "--port",
        "0",
        "--json",
        "--until-eof",
    ]
    with log.open("wb") as log_file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_file,
            env=environment(data_dir, **variables),
            start_new_session=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the server did not start:\n{log.read_text()[-3000:]}"
    try:
        yield Product(json.loads(line), data_dir, log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {deadline_s:g} s")


def planned(client: Client, project: str, text: str, **parameters: Any) -> dict[str, Any]:
    made = client.post(
        f"/projects/{project}/plans", {"template": text, "parameters": parameters, "description": "test"}
    )
    return settled(client, project, made["number"])


def settled(client: Client, project: str, number: int) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        made: dict[str, Any] = client.get(f"/projects/{project}/plans/{number}")
        return None if made["status"] in ("planning", "applying") else made

    return dict(until(look, f"plan {number} of {project} settles"))


def approve(client: Client, project: str, made: dict[str, Any]) -> dict[str, Any]:
    path = f"/projects/{project}/plans/{made['number']}/approve"
    return dict(client.post(path, {"digest": made["digest"], "comment": "ok"}))


def apply(client: Client, project: str, made: dict[str, Any]) -> dict[str, Any]:
    client.post(f"/projects/{project}/plans/{made['number']}/apply")
    return settled(client, project, made["number"])


def done(ann: Client, bob: Client, project: str, text: str, **parameters: Any) -> dict[str, Any]:
    """Plan, approve and apply; the plan as it ends."""
    made = planned(ann, project, text, **parameters)
    assert made["status"] == "pending", made
    approve(bob, project, made)
    return apply(ann, project, made)
