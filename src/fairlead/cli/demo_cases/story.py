"""The story that the demo tells: three cases, one host over SSH, three verdicts."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fairlead.cli import output
from fairlead.cli.casework import fetch_report, table
from fairlead.cli.client import Client, Credentials
from fairlead.cli.demo.processes import announced, started
from fairlead.cli.demo.story import DemoFailed, Times, fresh, tail
from fairlead.kernel import telemetry

PROJECT = "radiotherapy"
CASES = (("none", 1), ("none", 2), ("position-shift", 3))  # fault and seed
DEADLINE_S = 300.0


def tell(data_dir: Path, *, as_json: bool = False) -> None:
    """The demo, from an empty folder to the table of timings. Raises DemoFailed."""
    if as_json:
        output.reserve_stdout()
    telemetry.configure(level="warning", form="text")
    times, folder = Times(), data_dir.absolute()
    fresh(data_dir)
    with ExitStack() as stack:
        cases = Story(folder, stack, times).tell()
    times.show()
    if as_json:
        output.as_json({"cases": cases, "seconds": times.document()})


class Story:
    """What happens, in order."""

    def __init__(self, folder: Path, stack: ExitStack, times: Times) -> None:
        self.folder = folder
        self.stack = stack
        self.times = times
        self.out = output.console()
        self.chapter = 0

    def tell(self) -> list[dict[str, Any]]:
        """All of it; what came of the cases. Raises DemoFailed where something is not as it should be."""
        host = self._host()
        self._write_cases()
        client = self._server(host)
        found = self._watch(client, host)
        self._verdicts(client, found)
        kept = ("number", "verdict", "pass_rate", "host")
        return [{name: case[name] for name in kept} for case in found]

    def _heading(self, title: str, text: str = "") -> None:
        self.chapter += 1
        self.out.print(f"\n[bold reverse] {self.chapter} [/] [bold]{title}[/]  {text}\n")

    def _host(self) -> dict[str, Any]:
        self._heading("A host to calculate on")
        with self.times.of("start: SSH server"):
            line = self.stack.enter_context(
                announced(
                    self.folder,
                    "gpu-host",
                    ["-m", "fairlead.cli.demo_cases.gpu_host", str(self.folder / "ssh")],
                )
            )
            host: dict[str, Any] = json.loads(line)
        server = (
            "Debian's OpenSSH sshd" if host["server"] == "OpenSSH" else "asyncssh's server (no sshd here)"
        )
        self.out.print(
            f"{server} on 127.0.0.1:{host['port']}, its key pinned, account {host['user']}\n"
            "[dim]it stands for a GPU host: this demo's engine needs no GPU, its two places are processes[/]"
        )
        return host

    def _write_cases(self) -> None:
        from fairlead.cases import faults, machine

        self._heading(
            "Three synthetic cases arrive", "CT phantom, RT Ion Plan, delivery logs; no real patient"
        )
        with self.times.of("generate three cases"):
            rooms = machine.load()
            for fault, seed in CASES:
                folder = self.folder / "scan" / "G1" / f"SYN{seed:06d}" / "study"
                faults.generate_case(folder, rooms, fault=fault, seed=seed)
                what = faults.find(fault).what
                self.out.print(f"case folder {seed}: {what if fault != 'none' else 'delivered as planned'}")

    def _server(self, host: dict[str, Any]) -> Client:
        with self.times.of("start: API, worker; a project"):
            command = ["-m", "fairlead.cli.main", "serve", "--port", "0", "--json", "--until-eof"]
            line = self.stack.enter_context(announced(self.folder, "serve", command, **self._settings(host)))
            about = json.loads(line)
            client = _login(about)
            client.post("/projects", {"id": PROJECT, "name": "Radiotherapy"})
        return client

    def _settings(self, host: dict[str, Any]) -> dict[str, str]:
        keys = self.folder / "ssh"
        hosts = [
            {
                "name": "gpu-host",
                "executor": "ssh",
                "address": "127.0.0.1",
                "port": host["port"],
                "user": host["user"],
                "known_hosts": str(keys / "known_hosts"),
                "identity_file": str(keys / "client_key"),
                "work_dir": str(self.folder / "on-the-host"),
                "python": sys.executable,
                "slots": 2,
            }
        ]
        return {
            "FAIRLEAD_DATA_DIR": str(self.folder / "data"),
            "FAIRLEAD_LOG_FORMAT": "text",
            "FAIRLEAD_AWS__MCP__WARM": "false",
            "FAIRLEAD_CASES__HOSTS": json.dumps(hosts),
            "FAIRLEAD_CASES__SCAN": json.dumps({PROJECT: str(self.folder / "scan")}),
            "FAIRLEAD_CASES__WATCH": "false",  # `fairlead cases watch` does
            "FAIRLEAD_CASES__STABILITY_S": "0.5",
        }

    def _watch(self, client: Client, host: dict[str, Any]) -> list[dict[str, Any]]:
        self._heading("fairlead cases watch", "validate, group, interpret, transfer, run, convert, verify")
        command = ["-m", "fairlead.cli.main", "cases", "watch", "--json", "--until-eof"]
        with self.times.of("three cases to their verdicts"), ExitStack() as watching:
            process = watching.enter_context(started(self.folder, "watch", command, **self._settings(host)))
            found = self._follow(process)
        return [client.get(f"/projects/{PROJECT}/cases/{number}") for number in sorted(found)]

    def _follow(self, process: "subprocess.Popen[bytes]") -> dict[int, dict[str, Any]]:
        from rich.live import Live

        latest: dict[int, dict[str, Any]] = {}

        def shown() -> Any:
            return table([latest[number] for number in sorted(latest)])

        live = (
            self.stack.enter_context(Live(console=self.out, get_renderable=shown, transient=False))
            if (self.out.is_terminal)
            else None
        )
        deadline = time.monotonic() + DEADLINE_S
        assert process.stdout is not None
        for line in process.stdout:
            case = json.loads(line)
            latest[case["number"]] = case
            if live is None:
                self.out.print(
                    f"case {case['number']}  {case['step']:<10} {case['progress']:>4.0%}  {case['status']}"
                )
            if len(latest) == len(CASES) and all(one["finished_at"] for one in latest.values()):
                break
            if time.monotonic() > deadline:
                raise DemoFailed("The cases did not end in time.", remedy=f"Read {self.folder}/serve.log.")
        else:
            raise DemoFailed("The watcher ended.", last_lines=tail(self.folder / "watch.log"))
        if live is not None:
            live.refresh()
            live.stop()
        return latest

    def _verdicts(self, client: Client, found: list[dict[str, Any]]) -> None:
        self._heading("Verdicts", "gamma 3 % / 3 mm planned against delivered, and the delivery logs")
        wrong = []
        with self.times.of("fetch reports and pictures"):
            for case in found:
                out = self.folder / "reports" / f"case-{case['number']}"
                names = fetch_report(client, f"/projects/{PROJECT}/cases/{case['number']}", out)
                self._verdict(case, out, names)
                wrong += [case["number"]] if not names else []
        verdicts = sorted(str(case["verdict"]) for case in found)
        if verdicts != ["fail", "pass", "pass"] or wrong:
            raise DemoFailed(
                f"The verdicts are {verdicts}; two passes and one fail were expected.",
                remedy=f"Read {self.folder}/serve.log.",
                problems=[case["problem"] for case in found if case["problem"]],
            )

    def _verdict(self, case: dict[str, Any], out: Path, names: list[str]) -> None:
        passed = case["verdict"] == "pass"
        mark = "[bold green]PASS[/]" if passed else "[bold red]FAIL[/]"
        rate = f"gamma {case['pass_rate']:.1f} % of points" if case["pass_rate"] is not None else "no dose"
        self.out.print(f"case {case['number']}  {mark}  {rate}, calculated on {case['host']}")
        for check in (case["result"] or {}).get("checks", ()):
            if not check["passed"]:
                self.out.print(f"    [red]✗[/] {check['name']}: {check['found']} (limit {check['limit']})")
        if case["problem"]:
            self.out.print(f"    {case['problem']['detail']}", style="red", markup=False)
        self.out.print(f"    {out}/report.html and {len(names)} pictures", style="dim", markup=False)


def _login(about: dict[str, Any]) -> Client:
    client = Client(Credentials(about["url"]), keep=False)
    body = {"username": about["username"], "password": about["password"]}
    session = client.request("POST", "/sessions", body=body, auth=False)
    return Client(Credentials(about["url"], session["access_token"], session["refresh_token"]), keep=False)
