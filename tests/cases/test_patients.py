"""A patient named in every way a sender has, through the whole pipeline: nobody outside hears the name."""

import contextlib
import re
import shutil
import sqlite3
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pydicom
import pytest
from pydicom.uid import UID

from fairlead.api.app import build_app
from fairlead.cases import faults, phantom, rules
from fairlead.cases.faults import FAULTS
from fairlead.cases.generate import Written
from fairlead.cases.machine import Machine
from fairlead.cases.model import delivery_label
from fairlead.cases.routes import CasesDoor, router
from fairlead.cases.steps.port import FilesUnusable, Step, Work, _in_time
from fairlead.cli.client import Client, Credentials
from fairlead.kernel.objects import open_objects
from fairlead.kernel.projects import accounts, sessions
from fairlead.kernel.projects.tokens import SigningKey
from tests.api.conftest import served
from tests.cases.case_worker import PROJECT
from tests.cases.clinic import Clinic, opened, until
from tests.cases.test_pipeline import counting_host, started
from tests.e2e.test_cases import titles

# In identifiers, names, UIDs, labels, and in the names of files and folders.
WORDS = (
    "PID4711QX",
    "DOEQXQX",
    "JANEQXQX",
    "LABELQX",
    "BEAMQXQX",
    "FILEQXQX",
    "4711007815",
    "4711471147114711",
)
ID, FAMILY, GIVEN, LABEL, BEAM, FILE, DIGITS, FOLDER = WORDS
ROOT = f"1.2.826.0.1.{DIGITS}"


def named(folder: Path, machines: Machine, fault: str, seed: int) -> Written:
    """A synthetic case of that patient."""
    written = faults.generate_case(folder, machines, fault=fault, seed=seed)
    for path in [*folder.glob("*.dcm"), *folder.glob("CT/*.dcm")]:
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.PatientName, dataset.StudyID = ID, f"{FAMILY}^{GIVEN}", FAMILY
        dataset.StudyInstanceUID = f"{ROOT}.{seed}.1"
        if dataset.Modality == "RTPLAN":
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{ROOT}.{seed}.2")
            dataset.RTPlanLabel, dataset.RTPlanName = LABEL, f"{FAMILY} {GIVEN}"
            for number, beam in enumerate(dataset.IonBeamSequence):
                if beam.BeamName.upper() != "SETUP":
                    beam.BeamName = f"{BEAM} {number}"
        path.write_bytes(phantom.encoded(dataset))
        path.rename(path.with_name(f"{FILE}.{FAMILY}.{path.name.replace(written.plan.uid, ROOT)}"))
    for place in folder.glob("[0-9]" * 16):
        for text in (place / "PlanInfo.txt", place / "PlanRange.txt"):
            said = text.read_text().replace(written.identity.patient_id, ID)
            said = said.replace(written.identity.study_uid, f"{ROOT}.{seed}.1")
            text.write_text(said + (f"TCSC_NAME,{FAMILY} {GIVEN}\n" if text.stem == "PlanInfo" else ""))
        for log in place.glob("*.[pm][tg]n"):
            log.rename(log.with_name(log.name.replace(written.identity.patient_id, ID)))
    (plan,) = folder.glob("*.dcm")
    return replace(written, plan_file=plan, identity=replace(written.identity, patient_id=ID))


def says(text: str) -> list[str]:
    """The words of the patient in `text`."""
    return [word for word in WORDS if word.lower() in text.lower()]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, machines: Machine) -> Written:
    """That patient's case, in order: read only."""
    return named(tmp_path_factory.mktemp("named") / ID / f"{FAMILY}-study", machines, "none", 1)


def copy_of(case: Written, folder: Path) -> Written:
    """A copy to be damaged."""
    shutil.copytree(case.folder, folder)
    places = {beam: folder / place.name for beam, place in case.deliveries.items()}
    return replace(case, folder=folder, plan_file=folder / case.plan_file.name, deliveries=places)


def _first(case: Written) -> Path:
    return case.deliveries[min(case.deliveries)]


def _as_folder_of_digits(case: Written) -> None:
    _first(case).rename(case.folder / FOLDER)
    next((case.folder / FOLDER).glob("*_2.ptn")).write_bytes(b"odd")


DAMAGES: dict[str, Callable[[Written], object]] = {
    **{fault.name: fault.damage for fault in FAULTS if fault.kind == "record" and fault.damage},
    "second plan": lambda c: shutil.copy(c.plan_file, c.folder / f"{FILE}.second.dcm"),
    "stray log": lambda c: (_first(c) / f"{FAMILY}_{GIVEN}.ptn").touch(),
    "hostile name": lambda c: (c.folder / f"{FAMILY}^{GIVEN}\n.txt").touch(),
    "link": lambda c: (c.folder / f"{FAMILY}.lnk").symlink_to("/etc/hostname"),
    "no slice": lambda c: (c.folder / "CT" / f"{FAMILY}.dcm").write_bytes(b"no"),
    "no plan below": lambda c: shutil.move(c.plan_file, _made(c.folder / FAMILY) / f"{FILE}.dcm"),
    "empty plan": lambda c: c.plan_file.write_bytes(b""),
    "delivery without PlanInfo": lambda c: _made(c.folder / FOLDER),
    "odd log in a folder of digits": _as_folder_of_digits,
}


def _made(folder: Path) -> Path:
    folder.mkdir()
    (folder / "x.dcm").write_bytes(b"no DICOM")
    return folder


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_no_violation_that_is_kept_names_the_patient(
    damage: Callable[[Written], object], base: Written, machines: Machine, tmp_path: Path
) -> None:
    case = copy_of(base, tmp_path / ID / f"{FAMILY}-study")
    damage(case)
    found = rules.examine(case.folder, machines)
    assert found.anonymous
    assert [one.rule for one in found.anonymous] == [one.rule for one in found.violations]
    assert says(str(found.anonymous)) == []
    assert "a file of the case" not in str(found.anonymous)  # every place can still be found


def test_a_violation_that_is_kept_still_says_where(base: Written, machines: Machine, tmp_path: Path) -> None:
    case = copy_of(base, tmp_path / "case")
    DAMAGES["truncated-log"](case)
    DAMAGES["no slice"](case)
    DAMAGES["second plan"](case)
    last = case.deliveries[max(case.deliveries)].name
    found = {one.rule: (one.file, one.field) for one in rules.examine(case.folder, machines).anonymous}
    number = sorted(path.name for path in (case.folder / "CT").iterdir()).index(f"{FAMILY}.dcm") + 1
    plan = sorted(path.name for path in case.folder.iterdir()).index(f"{FILE}.second.dcm") + 1
    rows = (case.folder / last).glob("*_5.ptn")
    assert found["log.truncated"] == (f"{last}/layer 5.ptn", f"row {next(rows).stat().st_size // 16}")
    assert found["ct.unreadable"] == (f"CT/#{number}.dcm", "")
    assert found["plan.ambiguous"] == (f"#{plan}.dcm", "Modality")


@pytest.mark.parametrize(
    ("folder", "shown"),
    [("2026011209300000", "2026011209300000"), (FOLDER, "delivery-d2bd2f0a"), ("9999999999999999", None)],
)
def test_a_delivery_is_called_by_its_time_and_by_nothing_else(folder: str, shown: str | None) -> None:
    label = delivery_label(folder)
    assert label == shown or (folder not in label and label.startswith("delivery-"))


async def test_a_file_that_cannot_be_read_is_an_error_without_its_path() -> None:
    async def refused(_: Work) -> None:
        raise PermissionError(13, "Permission denied", f"/scan/{FAMILY}/PlanInfo.txt")

    step = Step(name="validate", run=refused, deadline_s=5, until=0.1, reattach="")
    with pytest.raises(FilesUnusable) as caught:
        await _in_time(step, cast(Work, None))
    assert "permission denied" in caught.value.message
    assert says(str(caught.value.problem())) == []
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# --- through the whole pipeline ------------------------------------------------------------------

KEY = SigningKey(b"k" * 32)


def dump(database: Path) -> str:
    """Every table, but for the one column that holds senders' folders."""
    lines = []
    with contextlib.closing(sqlite3.connect(database)) as conn:
        tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert "cases" in tables
        for table in tables:
            columns = [row[1] for row in conn.execute(f"PRAGMA table_info('{table}')")]
            kept = [column for column in columns if (table, column) != ("cases", "folder")]
            query = f"SELECT {','.join(map(repr, kept))} FROM '{table}'".replace("'", '"')
            lines += [f"{table}: {row}" for row in conn.execute(query)]
    return "\n".join(lines)


def everything_below(folder: Path) -> str:
    """Names and contents of all files below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "\n".join(f"{path.relative_to(folder)}\n{path.read_bytes().decode('latin-1')}" for path in files)


def answers(clinic: Clinic) -> str:
    """What the API says about all of it to the administrator, reports included."""
    with clinic.database.transaction() as conn:
        user = accounts.create_user(conn, username="root", password_hash="!", is_admin=True)
        token = sessions.open_session(conn, KEY, user).access_token
    objects = open_objects((clinic.folder / "objects").absolute().as_uri())
    door = CasesDoor(database=clinic.database, runs=clinic.runs, objects=objects, hosts=())
    app = build_app(database=clinic.database, signing_key=KEY, runs=clinic.runs, routers=[router(door)])
    with served(app) as url:
        client = Client(Credentials(url, token), keep=False)
        cases = f"/projects/{PROJECT}/cases"
        said = [client.get(cases), client.get(f"{cases}/overview"), client.get("/case-hosts")]
        said += [client.get(f"/projects/{PROJECT}/{what}") for what in ("audit", "runs")]
        for case in clinic.cases():
            said += [client.get(f"{cases}/{case.number}"), client.get(f"/runs/{case.run_id}/events")]
            said.append(client.content(f"{cases}/{case.number}/report").decode())
        said.append(client.content("/metrics").decode())
        client.close()
    return "\n".join(map(str, said))


def test_nothing_that_leaves_the_pipeline_names_the_patient(
    base: Written, tmp_path: Path, sqlite_template: Path, kept: Path
) -> None:
    seen: list[str] = []
    there: list[str] = []  # what lies on the host while it calculates; afterwards it is cleaned up
    faulty = ("truncated-log", "stray log", "hostile name", "second plan", "wrong-patient")
    hosts = (counting_host(tmp_path, kept),)
    (tmp_path / "hold").touch()
    with opened(tmp_path, sqlite_template, hosts=hosts) as clinic:
        clinic.put(base.folder, f"{FAMILY}/{ID}-study")
        for number, name in enumerate(faulty):
            case = copy_of(base, tmp_path / "made" / f"{name}")
            plan = pydicom.dcmread(case.plan_file)
            plan.SOPInstanceUID = plan.file_meta.MediaStorageSOPInstanceUID = UID(f"{ROOT}.9.{number}")
            case.plan_file.write_bytes(phantom.encoded(plan))
            DAMAGES[name](case)
            clinic.put(case.folder, f"{FAMILY}/{ID}-{number}")
        clinic.start()

        def ended() -> bool:
            seen.append(titles())
            found = clinic.cases()
            if not there and len(started(clinic)) == 2:
                there.append(everything_below(tmp_path / "host"))
                (tmp_path / "hold").unlink()
            return len(found) == 1 + len(faulty) and all(case.status.final for case in found)

        until(ended, "all cases end")
        verdicts = sorted(str(case.verdict) for case in clinic.cases())
        assert verdicts == ["fail"] * len(faulty) + ["pass"], clinic.log()[-3000:]
        port = (tmp_path / "metrics-port").read_text()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            metrics = answer.read().decode()
        said = {
            "the API": answers(clinic),
            "metrics": metrics,
            "process titles": "\n".join(seen),
            "the log": clinic.log(),
            "the database": dump(tmp_path / "fairlead.db"),
            "the object store": everything_below(tmp_path / "objects"),
            "the host": there[0],
        }
    # The names were there to be told, and what was looked at is what was meant.
    assert f"{FAMILY}/{ID}-study" in str([case.folder for case in clinic.cases()])
    for place, words in {
        "the API": "log.truncated", "metrics": 'fairlead_cases_refused_total{rule="log.truncated"} 1.0',
        "process titles": "fairlead.cases.engines.run", "the log": "case.seen",
        "the database": "case_fractions", "the object store": "<title>PASS", "the host": "beam-2.json",
    }.items():  # fmt: skip
        assert words in said[place], place
    assert {place: says(text) for place, text in said.items()} == {place: [] for place in said}
    assert 'fairlead_case_step_seconds_count{outcome="done",step="run"} 2.0' in metrics
    assert re.search(r'fairlead_case_transfer_bytes_total\{direction="to_host"\} [1-9]', metrics)
