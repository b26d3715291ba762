"""The command line's engines: what there is, what is installed when, and a screening by a child program."""

import json
from pathlib import Path

import msgspec
import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from fairlead.cli import support_engines, support_screen
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.toolenv import ToolOffline, is_built
from fairlead.support.findings import EnginesDiffer, difference, document
from fairlead.support.screenings.port import ScreeningScopeInvalid
from fairlead.support.screenings.service_screener.copy import ServiceScreenerMissing
from tests.sandbox_service import start_sandbox, toolenvs
from tests.services import missing
from tests.support.reached import SECRET
from tests.support.screening_accounts import REGION, Seeder
from tests.support.screening_rigs import fake_checkout, witnessed
from tests.support.screenings import DAY, screening

ACCOUNT = "555566667777"


def fairlead(folder: Path, *arguments: object, **environment: str) -> Result:
    app = Typer()
    support_screen.register(app)
    support_engines.register(app)
    settings = {
        "FAIRLEAD_DATA_DIR": str(folder / "data"),
        "FAIRLEAD_TOOLENV_DIR": str(toolenvs()),
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": REGION,
    }
    result = CliRunner(env=settings | environment).invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, FairleadError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_program_screens_with_the_callers_credentials_and_never_sees_them(tmp_path: Path) -> None:
    tree = fake_checkout(tmp_path / "checkout")
    try:
        with start_sandbox(tmp_path) as sandbox:
            Seeder(sandbox, ACCOUNT, "acme").messages()
            done = fairlead(
                tmp_path, "screen", "--engine", "service-screener", "--endpoint-url", sandbox.endpoint_url,
                "--region", REGION, "--service", "sqs", "--account", ACCOUNT, "--json",
                FAIRLEAD_SUPPORT__SERVICE_SCREENER=str(tree),
            )  # fmt: skip
    except ToolOffline as error:
        missing(f"the sandbox, or what service-screener needs ({error.message})")
    found = json.loads(done.stdout)
    assert (found["engine"], found["account"], found["complete"]) == ("service-screener", ACCOUNT, True)
    failed = {(one["check"], one["resource"]["name"]) for one in found["findings"] if one["status"] == "fail"}
    assert failed == {("sqs.AccessPolicy", "acme-open")}
    (told,) = witnessed(tree)
    assert {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"} <= set(told["names"])
    assert not {"AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "FAIRLEAD_DATA_DIR"} & set(told["names"])
    assert "100 %" in done.stderr


def test_without_a_checkout_the_command_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ServiceScreenerMissing, match="not set"):
        fairlead(tmp_path, "screen", "--engine", "service-screener", "--endpoint-url", "http://127.0.0.1:9")


def test_the_previous_screening_must_be_by_the_same_engine_and_is_looked_at_first(tmp_path: Path) -> None:
    previous = tmp_path / "october.json"
    previous.write_bytes(msgspec.json.encode(document(screening())))
    with pytest.raises(EnginesDiffer, match="by builtin, this one by prowler"):
        fairlead(tmp_path, "screen", "--engine", "prowler", "--previous", previous)
    with pytest.raises(EnginesDiffer):
        difference(screening(), screening(engine="prowler"), on=DAY)


def test_engines_are_listed_with_what_they_would_install(tmp_path: Path) -> None:
    done = fairlead(tmp_path, "engines", "list", "--json", FAIRLEAD_TOOLENV_DIR=str(tmp_path))
    assert json.loads(done.stdout)["engines"] == [
        {"engine": "builtin", "ready": True, "size": None},
        {"engine": "prowler", "ready": False, "size": "190 MB"},
        {"engine": "service-screener", "ready": False, "size": "50 MB"},
    ]
    assert (
        "not installed (190 MB)"
        in fairlead(tmp_path, "engines", "list", FAIRLEAD_TOOLENV_DIR=str(tmp_path)).stdout
    )


def test_an_engine_is_installed_once_and_its_size_said_before(tmp_path: Path) -> None:
    asked = ("engines", "install", "service-screener")
    try:
        first = fairlead(tmp_path, *asked, FAIRLEAD_TOOLENV_DIR=str(tmp_path))
    except ToolOffline as error:
        missing(f"the package index ({error.message})")
    assert "about 50 MB" in first.stderr
    assert "service-screener is installed." in first.stdout
    assert is_built("service-screener", root=tmp_path)
    again = fairlead(tmp_path, *asked, FAIRLEAD_TOOLENV_DIR=str(tmp_path))
    assert (again.stderr, again.stdout) == ("", "service-screener is ready.\n")


def test_there_is_nothing_to_install_for_builtin_and_no_engine_nessus(tmp_path: Path) -> None:
    assert "builtin is ready." in fairlead(tmp_path, "engines", "install", "builtin").stdout
    with pytest.raises(ScreeningScopeInvalid, match="no engine 'nessus'"):
        fairlead(tmp_path, "engines", "install", "nessus")
