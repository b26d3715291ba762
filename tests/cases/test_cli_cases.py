"""The offline commands as a user types them."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fairlead.cases import rtdose
from fairlead.cli.cases import app
from fairlead.kernel.errors import FairleadError


def _run(*arguments: object) -> tuple[int, Any]:
    """Exit code, and standard output as JSON. Expected failures are raised as the main program sees them."""
    result = CliRunner().invoke(
        app, [str(argument) for argument in (*arguments, "--json")], standalone_mode=False
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    code = result.return_value if isinstance(result.return_value, int) else result.exit_code
    return code, json.loads(result.stdout)


def test_validate_says_valid_and_exits_0(clean_case: Path) -> None:
    assert _run("validate", clean_case) == (0, {"valid": True, "violations": []})


def test_generate_with_a_fault_and_validate_exits_1_and_names_it(tmp_path: Path) -> None:
    code, made = _run("generate", tmp_path / "case", "--fault", "truncated-log", "--seed", 7)
    assert (code, made["fault"], made["seed"]) == (0, "truncated-log", 7)
    code, found = _run("validate", tmp_path / "case")
    assert code == 1
    assert found["valid"] is False
    assert [set(violation) for violation in found["violations"]] == [{"rule", "file", "field", "message"}]
    assert found["violations"][0]["rule"] == "log.truncated"


def test_faults_are_listed_by_name() -> None:
    _, listed = _run("generate", "--fault", "help")
    assert {"none", "position-shift", "missing-layer", "private-spots"} <= {fault["name"] for fault in listed}


def test_dose_then_gamma_with_itself_is_100_percent(clean_case: Path, tmp_path: Path) -> None:
    plan = next(clean_case.glob("RP.*"))
    out = tmp_path / "rd.dcm"
    code, made = _run(
        "dose", "--plan", plan, "--ct", clean_case / "CT", "--engine", "reference", "--out", out,
        "--beams-out", tmp_path / "beams", "--spacing-mm", 6,
    )  # fmt: skip
    assert code == 0
    assert "Not for clinical use" in made["engine"]
    assert made["max_gy"] == pytest.approx(2.0, rel=0.1)
    assert sorted(path.name for path in (tmp_path / "beams").iterdir()) == ["RD.beam-2.dcm", "RD.beam-3.dcm"]
    beams = [rtdose.read(path).values for path in sorted((tmp_path / "beams").iterdir())]
    assert abs(beams[0] + beams[1] - rtdose.read(out).values).max() < 1e-5
    code, result = _run("gamma", out, out, "--dose-percent", 3, "--distance-mm", 3)
    assert code == 0
    assert (result["pass_rate"], result["cutoff_percent"], result["normalisation"]) == (100.0, 10.0, "global")
    assert result["points"] == result["passed"] > 1000


def test_gamma_exits_0_whatever_the_pass_rate(clean_case: Path, tmp_path: Path) -> None:
    plan = next(clean_case.glob("RP.*"))
    files = ("--plan", plan, "--ct", clean_case / "CT", "--out", tmp_path / "rd.dcm", "--beams-out", tmp_path)
    _run("dose", *files, "--spacing-mm", 8)
    code, result = _run("gamma", tmp_path / "rd.dcm", tmp_path / "RD.beam-2.dcm")
    assert code == 0
    assert result["pass_rate"] < 60.0


def test_interpret_lists_layers_by_beam(clean_case: Path) -> None:
    code, found = _run("interpret", clean_case)
    assert code == 0
    assert [fraction["state"] for fraction in found["fractions"]] == ["complete"]
    assert [(layer["beam"], layer["layer"]) for layer in found["layers"]][:2] == [(2, 1), (2, 2)]
    assert len(found["layers"][0]["spots"]) == 121


def test_report_exits_1_for_a_case_that_fails(tmp_path: Path) -> None:
    _run("generate", tmp_path / "case", "--fault", "wrong-patient")
    code, result = _run("report", tmp_path / "case", "--out", tmp_path / "out")
    assert (code, result["verdict"]) == (1, "fail")


def test_pseudonymise_writes_a_valid_copy(clean_case: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"0123456789abcdef")
    code, made = _run("pseudonymise", clean_case, tmp_path / "copy", "--key-file", tmp_path / "key")
    assert (code, made["valid"], made["deliveries"]) == (0, True, 2)


ERRORS: dict[str, tuple[list[str], str]] = {
    "no-case": (["validate", "nowhere"], "cases.not_found"),
    "no-machine-file": (["validate", ".", "--machine", "nowhere.toml"], "cases.machine_file_invalid"),
    "no-plan": (["dose", "--plan", "no.dcm", "--ct", "no", "--out", "x"], "cases.file_invalid"),
    "no-engine": (
        ["dose", "--plan", "p", "--ct", "c", "--engine", "magic", "--out", "x"],
        "cases.engine_unknown",
    ),
    "no-dose": (["gamma", "a.dcm", "b.dcm"], "cases.file_invalid"),
    "bad-criteria": (["gamma", "a", "b", "--dose-percent", "-1"], "cases.gamma_input"),
    "no-fault": (["generate", "x", "--fault", "gremlins"], "cases.fault_unknown"),
}


@pytest.mark.parametrize(("arguments", "error"), ERRORS.values(), ids=ERRORS.keys())
def test_a_wrong_command_line_is_an_error_with_a_code_and_a_remedy(
    arguments: list[str], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FairleadError) as caught:
        _run(*arguments)
    assert caught.value.code == error
    assert caught.value.remedy


def test_a_result_that_cannot_be_written_leaves_nothing_behind(clean_case: Path, tmp_path: Path) -> None:
    plan = next(clean_case.glob("RP.*"))
    with pytest.raises(FairleadError) as caught:
        _run(
            "dose",
            "--plan",
            plan,
            "--ct",
            clean_case / "CT",
            "--out",
            tmp_path / "no" / "rd.dcm",
            "--spacing-mm",
            9,
        )
    assert caught.value.code == "cases.output_unwritable"
    assert list(tmp_path.iterdir()) == []


def test_generate_without_a_folder_is_a_usage_error() -> None:
    with pytest.raises(typer.BadParameter):
        _run("generate")
