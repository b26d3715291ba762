"""The story that the demo tells, through the same HTTP API and the same views as the command line."""

import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead.cli import output
from fairlead.cli.changes import follow_apply, state_difference, wait_for_plan
from fairlead.cli.client import Client, Credentials, ServerRefused
from fairlead.cli.planview import plan_view
from fairlead.kernel import telemetry, toolenv
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.settings import child_environment

HERE = Path(__file__).parent
MARKER = ".fairlead-demo"
START_DEADLINE_S = 300.0
ACCOUNT = "111122223333"


class DemoFailed(FairleadError):
    """The demo did not end as it should."""

    code = "demo.failed"


def tell(data_dir: Path, toolenvs: Path, *, as_json: bool = False) -> None:
    """The demo, from an empty folder to the table of timings. Raises DemoFailed."""
    if as_json:
        output.reserve_stdout()
    telemetry.configure(level="warning", form="text")
    times = Times()
    fresh(data_dir)
    with _serving(data_dir.absolute(), toolenvs.absolute(), times) as about:
        answers = Story(about, toolenvs.absolute(), times).tell()
    times.show()
    if as_json:
        output.as_json({"answers": answers, "seconds": times.document()})


@dataclass
class Times:
    """How long each part took."""

    rows: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Time a block."""
        began = time.perf_counter()
        yield
        self.rows.append((what, time.perf_counter() - began))

    def document(self) -> dict[str, float]:
        """Seconds by part, and of all of them."""
        return {what: round(seconds, 2) for what, seconds in (*self.rows, ("all", self.total))}

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(seconds for _, seconds in self.rows)

    def show(self) -> None:
        """The table at the end."""
        from rich.table import Table

        table = Table(
            "part",
            "seconds",
            title="Timings",
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
        )
        table.columns[1].justify = "right"
        for what, seconds in self.rows:
            table.add_row(what, f"{seconds:.1f}")
        table.add_row("all", f"{self.total:.1f}", style="bold")
        output.console().print(table)


def fresh(data_dir: Path) -> None:
    """An empty folder; only one that an earlier demo made is emptied."""
    if data_dir.exists() and any(data_dir.iterdir()):
        if not (data_dir / MARKER).exists():
            raise DemoFailed(
                f"{data_dir} is not empty and no earlier demo made it.",
                remedy="Choose another folder with --data-dir.",
            )
        # Processes of a demo that was killed may still be ending: they keep their files, under another name.
        data_dir.rename(data_dir.with_name(f"{data_dir.name}.old-{secrets.token_hex(4)}"))
    for old in data_dir.parent.glob(f"{data_dir.name}.old-*"):
        if (old / MARKER).exists():
            shutil.rmtree(old, ignore_errors=True)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    (data_dir / MARKER).touch()


@contextmanager
def _serving(data_dir: Path, toolenvs: Path, times: Times) -> Iterator[dict[str, Any]]:
    """The product as `fairlead serve --sandbox` runs it, in processes that end with this one."""
    variables = {
        "FAIRLEAD_DATA_DIR": str(data_dir),
        "FAIRLEAD_TOOLENV_DIR": str(toolenvs),
        "FAIRLEAD_LOG_FORMAT": "text",
    }
    with times.of("external programs (only built once)"):
        for name in ("ministack", "aws-api-mcp-server"):
            with output.console().status(f"environment of {name} …"):
                toolenv.ensure(name, root=toolenvs)
    log = data_dir / "serve.log"
    with log.open("wb") as log_file, times.of("start: local AWS, API, worker"):
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "fairlead.cli.main",
                "serve",
                "--sandbox",
                "--port",
                "0",
                "--json",
                "--until-eof",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_file,
            env=child_environment(variables),
            start_new_session=True,
        )
        line = process.stdout.readline() if process.stdout else b""
    if not line:
        raise DemoFailed("The server did not start.", remedy=f"Read {log}.", last_lines=tail(log))
    try:
        yield json.loads(line)
    except ServerRefused as error:
        raise DemoFailed(f"{error.message}", remedy=f"Read {log}.") from error
    except KeyboardInterrupt:
        output.console().print("\nstopping …", style="dim")
        raise
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def tail(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]


class Story:
    """Who does what, in order."""

    def __init__(self, about: dict[str, Any], toolenvs: Path, times: Times) -> None:
        self.about = about
        self.toolenvs = toolenvs
        self.times = times
        self.out = output.console()
        self.chapter = 0

    def tell(self) -> list[dict[str, Any]]:
        """All of it; what the services answered. Raises DemoFailed where something is not as it should be."""
        self._heading(
            "Start",
            f"API {self.about['url']} · local AWS {self.about['sandbox_url']} · "
            f"worker {self.about['worker_pid']}",
        )
        ann, bob = self._people()
        first = self._change(ann, bob, "shop-1.yaml", "the shop, first version")
        before = self._identifiers(ann)
        second = self._change(ann, bob, "shop-2.yaml", "faster mail, new image, no alerts, an alarm")
        self._difference(ann, first, second)
        return self._verify(ann, before)

    def _heading(self, title: str, text: str = "") -> None:
        self.chapter += 1
        self.out.print(f"\n[bold reverse] {self.chapter} [/] [bold]{title}[/]  {text}\n")

    def _people(self) -> tuple[Client, Client]:
        self._heading("A project with two members", "ann and bob may both propose and approve")
        with self.times.of("users and project"):
            admin = self._login(self.about["username"], self.about["password"])
            admin.post("/projects", {"id": "shop", "name": "Web shop", "settings": {"region": "us-east-1"}})
            clients = []
            for name in ("ann", "bob"):
                password = secrets.token_urlsafe(16)
                admin.post("/users", {"username": name, "display_name": name.title(), "password": password})
                admin.request("PUT", f"/projects/shop/members/{name}", body={"role": "approver"})
                clients.append(self._login(name, password))
        self.out.print("project shop: admin (owner), ann (approver), bob (approver)")
        return clients[0], clients[1]

    def _login(self, username: str, password: str) -> Client:
        client = Client(Credentials(self.about["url"]), keep=False)
        session = client.request(
            "POST", "/sessions", body={"username": username, "password": password}, auth=False
        )
        return Client(
            Credentials(self.about["url"], session["access_token"], session["refresh_token"]), keep=False
        )

    def _change(self, ann: Client, bob: Client, template: str, description: str) -> int:
        text = (HERE / template).read_text(encoding="utf-8")
        self._heading(f"ann plans {template}", description)
        body = {
            "template": text,
            "parameters": {"DatabasePassword": "correct-horse-battery"},
            "description": description,
        }
        with self.times.of(f"plan {template}"):
            made = wait_for_plan(ann, "shop", ann.post("/projects/shop/plans", body)["number"])
        if made["status"] != "pending":
            raise DemoFailed(f"Plan {made['number']} is {made['status']}: {made.get('problem')}")
        self.out.print(plan_view(made["document"]))
        self._approve(ann, bob, made)
        self._heading("ann applies", "in dependency order, in parallel")
        with self.times.of(f"apply {template}"):
            made = follow_apply(ann, "shop", ann.post(f"/projects/shop/plans/{made['number']}/apply"))
        if made["status"] != "applied":
            raise DemoFailed(f"Plan {made['number']} is {made['status']}: {made.get('problem')}")
        state = ann.get("/projects/shop/state")
        self.out.print(
            f"\nstate version [bold]{state['version']}[/] with {state['resource_count']} resources\n"
            f"{state['address']}"
        )
        return int(state["version"])

    def _approve(self, ann: Client, bob: Client, made: dict[str, Any]) -> None:
        path, body = f"/projects/shop/plans/{made['number']}/approve", {"digest": made["digest"]}
        self._heading("Who may approve?", f"the risk is {made['risk']}")
        if made["risk"] == "HIGH":
            self._refused(ann, path, body)
        approved = bob.post(path, {**body, "comment": "reviewed"})
        self.out.print(f"bob: [green]{approved['status']}[/]  digest {str(approved['digest'])[:23]}…")

    def _refused(self, author: Client, path: str, body: dict[str, Any]) -> None:
        try:
            author.post(path, body)
        except ServerRefused as refusal:
            if refusal.body["code"] != "changes.own_high_risk":
                raise
            self.out.print(f"ann: [red]refused[/]  {refusal.message}  [dim]({refusal.body['code']})[/]")
        else:
            raise DemoFailed("The author approved a change with high risk alone.")

    def _identifiers(self, client: Client) -> dict[str, str]:
        return {item["logical_id"]: item["id"] for item in client.get("/projects/shop/resources")["items"]}

    def _difference(self, client: Client, first: int, second: int) -> None:
        self._heading(f"What changed between state versions {first} and {second}")
        self.out.print(
            state_difference(client.get("/projects/shop/state/compare", before=first, after=second))
        )

    def _verify(self, client: Client, before: dict[str, str]) -> list[dict[str, Any]]:
        self._heading(
            "Is it really so?", "asking the services themselves: neither Fairlead nor Cloud Control"
        )
        ids = {**self._identifiers(client), "old WebServer": before["WebServer"]}
        with self.times.of("ask the services"):
            rows = self._ask(ids)
        wrong = 0
        for name, question, expected, found in rows:
            right = expected == found
            wrong += not right
            mark = "[green]✓[/]" if right else f"[bold red]✗ expected {expected}[/]"
            self.out.print(f"{mark} [bold]{name}[/] {question}: {found}")
        if wrong:
            raise DemoFailed(f"{wrong} of {len(rows)} answers are not as they should be.")
        self.out.print(f"\n[bold green]{len(rows)} of {len(rows)} answers are right.[/]\n")
        return [{"resource": row[0], "question": row[1], "answer": row[3]} for row in rows]

    def _ask(self, ids: dict[str, str]) -> list[tuple[str, str, Any, Any]]:
        python = toolenv.ensure("aws-api-mcp-server", root=self.toolenvs)
        answer = subprocess.run(  # noqa: S603 - our own file
            [str(python), "-I", str(HERE / "look.py"), self.about["sandbox_url"], ACCOUNT, json.dumps(ids)],
            capture_output=True,
            check=False,
            timeout=60,
        )
        if answer.returncode:
            raise DemoFailed(
                "The services could not be asked.", last_lines=answer.stderr.decode().splitlines()[-5:]
            )
        return [tuple(row) for row in json.loads(answer.stdout)]
