"""The command line as a person or a script meets it: what it prints, and its exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.product import Product

Run = Callable[..., subprocess.CompletedProcess[str]]
OLD = {"Resources": {"Q": {"Type": "AWS::SQS::Queue", "Properties": {"DelaySeconds": 1}}}}
NEW = {
    "Resources": {
        "Q": {"Type": "AWS::SQS::Queue", "Properties": {"DelaySeconds": 2}},
        "T": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Fn::GetAtt": ["Q", "QueueName"]}}},
    }
}


@pytest.fixture
def fairlead(tmp_path: Path) -> Run:
    """Runs `fairlead` with a configuration of its own, in a folder that holds old.json and new.json."""
    (tmp_path / "old.json").write_text(json.dumps(OLD))
    (tmp_path / "new.json").write_text(json.dumps(NEW))

    def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
        return subprocess.run(
            [sys.executable, "-m", "fairlead.cli.main", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**inherited, "XDG_CONFIG_HOME": str(tmp_path / "config"), **variables},
            timeout=240,
        )

    return run


def answer(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


def test_diff_prints_changes_in_apply_order_and_exits_with_two(fairlead: Run) -> None:
    found = answer(fairlead("changes", "diff", "old.json", "new.json", "--json"), 2)
    assert [(c["logical_id"], c["action"], c["replacement"]) for c in found["changes"]] == [
        ("Q", "update", "never"),
        ("T", "create", "never"),
    ]
    assert found["changes"][0]["properties"] == [
        {"path": "DelaySeconds", "before": 1, "after": 2, "requires_replacement": False}
    ]


def test_diff_of_equal_templates_exits_with_zero(fairlead: Run) -> None:
    assert answer(fairlead("changes", "diff", "old.json", "old.json", "--json")) == {"changes": []}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param('{"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}', None, id="valid"),
        pytest.param(
            '{"Resources": {"Q": {"Type": "AWS::SQS::Qeue"}}}', "template.unknown_type", id="unknown type"
        ),
        pytest.param("Resources:\n\t- x", "template.syntax", id="malformed"),
    ],
)
def test_validate_lists_faults_with_their_lines(
    fairlead: Run, tmp_path: Path, text: str, code: str | None
) -> None:
    (tmp_path / "t.yaml").write_text(text)
    found = answer(fairlead("changes", "validate", "t.yaml", "--json"), 0 if code is None else 1)
    assert found["valid"] is (code is None)
    assert [fault["code"] for fault in found["faults"]] == ([] if code is None else [code])
    assert all(fault["line"] for fault in found["faults"])


def test_validate_reports_a_parameters_file_that_cannot_be_read_in_the_same_form(
    fairlead: Run, tmp_path: Path
) -> None:
    (tmp_path / "p.json").write_text('{\n"A" 1}')
    asked = ("changes", "validate", "old.json", "--parameters", "p.json")
    found = answer(fairlead(*asked, "--json"), 1)
    assert [(f["code"], f["line"]) for f in found["faults"]] == [("template.syntax", 2)]
    assert found["valid"] is False
    told = fairlead(*asked)
    assert (told.returncode, told.stdout.split(": ")[0]) == (1, "p.json:2")


def test_a_wrong_command_line_exits_with_one_and_points_to_the_help(fairlead: Run) -> None:
    done = fairlead("changes", "dif")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such command 'dif'" in done.stderr
    assert "fairlead changes --help" in done.stderr
    assert answer(fairlead("changes", "diff", "old.json", "--json"), 1)["code"] == "cli.usage"


def test_a_missing_file_and_a_silent_server_are_told_with_a_remedy(fairlead: Run) -> None:
    missing = answer(fairlead("changes", "diff", "none.json", "new.json", "--json"), 1)
    assert (missing["code"], missing["details"]["path"]) == ("cli.file_unreadable", "none.json")
    silent = answer(fairlead("whoami", "--json", FAIRLEAD_URL="http://127.0.0.1:9", FAIRLEAD_TOKEN="x"), 1)
    assert silent["code"] == "cli.server_unreachable"
    assert "fairlead serve" in silent["remedy"]
    assert answer(fairlead("whoami", "--json"), 1)["code"] == "cli.not_logged_in"


def test_help_names_every_command_quickly_and_version_is_printed(fairlead: Run) -> None:
    for command in (
        "login",
        "serve",
        "worker",
        "sandbox",
        "demo",
        "changes",
        "runs",
        "projects",
        "users",
        "tokens",
    ):
        assert command in fairlead("--help").stdout
    assert fairlead("--version").stdout.startswith("fairlead ")


def test_a_change_from_login_to_state_difference(fairlead: Run, product: Product) -> None:
    url = {"FAIRLEAD_URL": product.about["url"], "FAIRLEAD_PROJECT": "cli"}
    product.project("cli", cliann="approver")
    logged_in = answer(
        fairlead("login", "-u", "cliann", "--json", stdin="cliann-has-a-long-password\n", **url)
    )
    assert Path(logged_in["credentials"]).stat().st_mode & 0o077 == 0
    made = answer(fairlead("changes", "plan", "old.json", "--json", **url), 2)
    assert (made["status"], made["risk"]) == ("pending", "LOW")
    number = str(made["number"])
    assert "fairlead changes approve" in fairlead("changes", "show", number, **url).stdout
    assert (
        answer(fairlead("changes", "approve", number, "-m", "fine", "--json", **url))["status"] == "approved"
    )
    shown = fairlead("changes", "apply", number, **url)
    assert shown.returncode == 0, shown.stderr
    assert "✓ Q create" in shown.stdout
    assert answer(fairlead("changes", "plan", "old.json", "--json", **url))["status"] == "no_changes"
    number = str(answer(fairlead("changes", "plan", "new.json", "--json", **url), 2)["number"])
    fairlead("changes", "approve", number, **url)
    assert answer(fairlead("changes", "apply", number, "--json", **url))["state_version"] == 2
    difference = answer(fairlead("changes", "state", "diff", "1", "2", "--json", **url), 2)["differences"]
    assert [(item["kind"], item["logical_id"]) for item in difference] == [("added", "T"), ("changed", "Q")]
    assert answer(fairlead("changes", "state", "verify", "--json", **url))["intact"] is True
    runs = answer(fairlead("runs", "list", "--json", **url))["items"]
    assert {run["kind"] for run in runs} == {"changes.plan", "changes.apply"}
    watched = fairlead("runs", "watch", runs[0]["id"], "--json", **url).stdout.splitlines()
    assert json.loads(watched[-1])["type"] == "run.succeeded"
    token = answer(fairlead("tokens", "create", "ci", "--scope", "propose", "--json", **url))["token"]
    refused = fairlead("changes", "approve", number, "--json", FAIRLEAD_TOKEN=token, **url)
    assert answer(refused, 1)["code"] == "auth.scope_missing"
    fairlead("logout", **url)
    assert answer(fairlead("whoami", "--json", **url), 1)["code"] == "cli.not_logged_in"
