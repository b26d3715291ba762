"""The command engine: argument lists, placeholders, and output that is looked at."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fairlead.cases.engines import Control, DoseRequest, engine
from fairlead.cases.engines.options import read
from fairlead.cases.engines.port import (
    DoseRejected,
    EngineFailed,
    EngineNotConfigured,
    EngineOptionsInvalid,
)
from fairlead.cases.engines.reference import coarser
from tests.cases.engine_subjects import command, script, small_request


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> DoseRequest:
    """The small request."""
    return small_request(tmp_path_factory.mktemp("dicom"))


REJECTED = [
    "no-output", "truncated", "longer", "text", "shape", "integers", "zero", "not-finite", "negative",
    "silent", "warning",
]  # fmt: skip


@pytest.mark.parametrize("fault", REJECTED)
def test_output_that_cannot_be_trusted_is_rejected(fault: str, request_: DoseRequest, tmp_path: Path) -> None:
    chosen = command(tmp_path, fault=fault, success="all beams done", failures=["warning:"])
    with pytest.raises(DoseRejected):
        chosen.dose(request_)


def test_an_exit_code_other_than_0_is_a_failure(request_: DoseRequest, tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="exit code 3"):
        command(tmp_path, fault="exit-code").dose(request_)


def test_arguments_reach_the_program_as_they_are(request_: DoseRequest, tmp_path: Path) -> None:
    program = script(
        tmp_path / "show",
        """
import json, os, sys
json.dump({"argv": sys.argv[1:], "environment": dict(os.environ)}, open("seen.json", "w"))
import array
out = array.array("f", [1.0] * (18 * 24 * 22))
open(sys.argv[1], "wb").write(out.tobytes())
""",
    )
    hostile = "$(touch pwned); `id` | x > y {beam}{{seed}"
    options = {
        "argv": [str(program), "{out}", hostile.replace("{{seed}", "{seed}"), "a {beam} b", "{plan}", "{ct}"],
        "format": "float32",
        "seed": 9,
        "variables": {"SITE": "1"},
    }
    engine("command", options).dose(request_, Control(scratch=tmp_path / "s"))
    seen = json.loads((tmp_path / "s" / "command-1" / "seen.json").read_text())
    sources = request_.sources
    assert sources is not None
    assert seen["argv"][1:] == [
        "$(touch pwned); `id` | x > y 29", "a 2 b", str(sources.plan_file), str(sources.ct_folder)
    ]  # fmt: skip
    assert seen["environment"]["SITE"] == "1"
    assert not list(tmp_path.rglob("pwned"))


def test_secrets_of_our_environment_stay_ours(
    request_: DoseRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    program = script(tmp_path / "show", "import os, sys\nprint(sorted(os.environ.items()))\nsys.exit(1)\n")
    with pytest.raises(EngineFailed):
        engine("command", {"argv": [str(program), "{out}"]}).dose(request_, Control(scratch=tmp_path / "s"))
    log = (tmp_path / "s" / "command-1" / "command.log").read_text()
    assert "never" not in log
    assert "('CUDA_VISIBLE_DEVICES', '3')" in log


@pytest.mark.parametrize(("form", "kind"), [("float32", "f"), ("float64", "d")])
def test_raw_numbers_are_read_on_the_grid_of_the_ct(
    form: str, kind: str, request_: DoseRequest, tmp_path: Path
) -> None:
    body = f"""
import array, sys
out = array.array({kind!r}, bytes(18 * 24 * 22 * array.array({kind!r}).itemsize))
out[(5 * 24 + 6) * 22 + 7] = 2.0
open(sys.argv[1], "wb").write(out.tobytes())
"""
    program = script(tmp_path / "raw", body)
    options = {"argv": [str(program), "{out}"], "format": form, "out_grid": "ct", "dose_scale": 1.5}
    fine = engine("command", options).dose(request_)
    assert fine.beams[2][5, 6, 7] == 3.0
    assert fine.beams[2].sum() == 3.0
    grid = coarser(request_.grid, 12.0)
    coarse = engine("command", options).dose(replace(request_, grid=grid))
    assert coarse.beams[2].sum() == pytest.approx(3.0 / 8)
    assert np.argwhere(coarse.beams[2]).tolist() == [[2, 3, 3]]


BAD = {
    "unknown-placeholder": ({"argv": ["/bin/x", "{out}", "{shell}"]}, "shell"),
    "no-out": ({"argv": ["/bin/x"]}, "out"),
    "relative": ({"argv": ["x", "{out}"]}, "absolute"),
    "a-string": ({"argv": "/bin/x {out}"}, "argv"),
    "format": ({"argv": ["/bin/x", "{out}"], "format": "csv"}, "format"),
    "variable": ({"variables": {"A=B": "1"}}, "variables"),
}


@pytest.mark.parametrize(("options", "words"), BAD.values(), ids=BAD.keys())
def test_options_that_mean_nothing_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(EngineOptionsInvalid, match=words):
        engine("command", options)


def test_what_is_not_configured_or_not_there_is_said(request_: DoseRequest, tmp_path: Path) -> None:
    with pytest.raises(EngineNotConfigured, match="what to run"):
        engine("command").dose(request_)
    with pytest.raises(EngineNotConfigured, match="cannot be started"):
        engine("command", {"argv": [str(tmp_path / "none"), "{out}"]}).dose(request_)
    with pytest.raises(EngineNotConfigured, match="plan"):
        engine("command", {"argv": ["/bin/true", "{out}", "{plan}"]}).dose(replace(request_, sources=None))


def test_modifiers_are_taken_where_the_site_says_that_it_models_them(
    request_: DoseRequest, tmp_path: Path
) -> None:
    first, *others = request_.plan.beams
    shifted = replace(first, modifiers=("range shifter",))
    with_one = replace(request_, plan=replace(request_.plan, beams=(shifted, *others)))
    assert command(tmp_path, modifiers=True).dose(with_one).total.max() > 0


def test_options_come_from_a_file_and_the_command_line_overrules_it(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text('protons = 5000\nseed = 3\nprogram_dir = "/opt/mcsquare"\n')
    found = read("mcsquare", ["protons=70000", "threads = 2", "program_dir=/opt/x y"], file)
    assert found == {"protons": 70000, "seed": 3, "threads": 2, "program_dir": "/opt/x y"}


@pytest.mark.parametrize("given", ["protons", "=5"])
def test_what_is_no_option_is_said(given: str) -> None:
    with pytest.raises(EngineOptionsInvalid, match="KEY=VALUE"):
        read("mcsquare", [given], None)


@pytest.mark.parametrize("content", [None, "a = = 1"], ids=["missing", "no-toml"])
def test_an_options_file_that_cannot_be_read_is_named(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "o.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(EngineOptionsInvalid, match=r"o\.toml"):
        read("moqui", [], file)
