"""Cases as their users meet them: the server, a watcher and the command line, in real processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fairlead.cases import faults, machine
from fairlead.cases.generate import Written
from fairlead.cli.client import Client, Credentials
from tests.e2e.product import environment, until

PROJECT = "clinic"


@contextmanager
def started(
    arguments: list[str], log: Path, variables: dict[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the product, which ends with its standard input."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "fairlead.cli.main", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            env=variables,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("cases")
    (folder / "scan").mkdir()
    return environment(
        folder / "data",
        FAIRLEAD_AWS__MCP__WARM="false",
        FAIRLEAD_RUNS__METRICS_PORT="0",
        FAIRLEAD_CASES__SCAN=json.dumps({PROJECT: str(folder / "scan")}),
        FAIRLEAD_CASES__WATCH="false",
        FAIRLEAD_CASES__STABILITY_S="0.2",
        XDG_CONFIG_HOME=str(folder / "config"),
    )


def titles() -> str:
    """Command lines of every process now."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(place.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def cli(variables: dict[str, str], *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "fairlead.cli.main", "cases", *arguments, "--json"],
        env=variables, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_two_cases_go_from_the_scan_folder_to_their_reports_and_no_patient_is_named(
    variables: dict[str, str], tmp_path: Path
) -> None:
    serve = started(["serve", "--port", "0", "--json", "--until-eof"], tmp_path / "serve.log", variables)
    watch = started(["cases", "watch", "--json", "--until-eof"], tmp_path / "watch.log", variables)
    seen: list[str] = []
    with serve as server:
        assert server.stdout is not None
        about = json.loads(server.stdout.readline())
        client, token = _administrator(about)
        with watch as watching:
            written = _send(Path(json.loads(variables["FAIRLEAD_CASES__SCAN"])[PROJECT]))
            found = _until_ended(watching, seen)
        assert {case["verdict"] for case in found.values()} == {"pass", "fail"}, found
        listed = client.get(f"/projects/{PROJECT}/cases")["items"]
        shown = [client.get(f"/projects/{PROJECT}/cases/{case['number']}") for case in listed]
        failed = next(case for case in shown if case["verdict"] == "fail")
        assert "planinfo.stop_layer" in {violation["rule"] for violation in failed["violations"]}
        passed = next(case for case in shown if case["verdict"] == "pass")
        assert [beam["status"] for beam in passed["beams"]] == ["completed", "completed"]
        mine = {**variables, "FAIRLEAD_URL": about["url"], "FAIRLEAD_TOKEN": token}
        assert cli(mine, "prioritise", str(passed["number"]), "7", "-p", PROJECT)["priority"] == 7
        assert cli(mine, "hosts", "--pause", "local")["items"][0]["state"] == "paused"
        assert [slot["job"] for slot in cli(mine, "gpus")["items"]] == [None, None]
        events = [client.get(f"/runs/{case['run_id']}/events") for case in listed]
        report = client.content(f"/projects/{PROJECT}/cases/{passed['number']}/report")
        said = json.dumps([listed, shown, events, client.get("/case-hosts")])
        metrics = client.content("/metrics").decode()
    logs = (tmp_path / "serve.log").read_text() + (tmp_path / "watch.log").read_text()
    for one in written:
        for identifier in (one.identity.patient_id, one.identity.study_uid, one.plan.uid):
            for name, text in (
                ("answers", said), ("events and titles", "\n".join(seen)), ("logs", logs),
                ("metrics", metrics), ("report", report.decode()),
            ):  # fmt: skip
                assert identifier not in text, f"{identifier} in {name}"


def _administrator(about: dict[str, Any]) -> tuple[Client, str]:
    client = Client(Credentials(about["url"]), keep=False)
    body = {"username": about["username"], "password": about["password"]}
    session = client.request("POST", "/sessions", body=body, auth=False)
    token = session["access_token"]
    client = Client(Credentials(about["url"], token), keep=False)
    client.post("/projects", {"id": PROJECT, "name": "Clinic"})
    return client, token


def _send(scan: Path) -> list[Written]:
    rooms = machine.load()
    return [
        faults.generate_case(scan / f"SYN{seed:06d}", rooms, fault=fault, seed=seed)
        for fault, seed in (("none", 21), ("wrong-stop-layer", 22))
    ]


def _until_ended(watching: "subprocess.Popen[bytes]", seen: list[str]) -> dict[int, dict[str, Any]]:
    """The cases as the watcher shows them last; `seen` gathers what it says and all process titles."""
    found: dict[int, dict[str, Any]] = {}
    assert watching.stdout is not None
    os.set_blocking(watching.stdout.fileno(), False)
    rest = b""

    def look() -> bool:
        nonlocal rest
        assert watching.stdout is not None
        rest += watching.stdout.read() or b""
        *lines, rest = rest.split(b"\n")
        for line in lines:
            seen.append(line.decode())
            case = json.loads(line)
            found[case["number"]] = case
        seen.append(titles())
        return len(found) == 2 and all(case["finished_at"] for case in found.values())

    until(look, "both cases end")
    return found
