"""Planned against delivered dose: gamma, the verdict, its report and pictures."""

import asyncio
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fairlead.cases import report, rtdose, rules, store, verify
from fairlead.cases.engines.files import read_result
from fairlead.cases.steps.convert import DELIVERED_FILE, PLANNED_FILE, results_folder
from fairlead.cases.steps.interpret import INPUT, examined_copy, request_name
from fairlead.cases.steps.port import Step, Work
from fairlead.cases.steps.validate import SOURCE
from fairlead.cases.verify import Verdict
from fairlead.kernel.clock import utc_now

SHOWN = (".png", ".html", ".json")  # without patient identifiers, so they may be shown over HTTP


async def run(work: Work) -> dict[str, Any]:
    """The verdict on the calculated doses, into the case."""
    result = await work.calculate(_judge, work)
    work.parts.readings.forget(work.folder / SOURCE)
    return await _publish(work, result)


async def reject(work: Work) -> dict[str, Any]:
    """The verdict on a case that breaks rules: fail, without any dose."""
    case = await work.case()
    return await _publish(work, await work.calculate(_reject, work, Path(case.folder)))


def _judge(work: Work) -> dict[str, Any]:
    examined = examined_copy(work)
    out = results_folder(work)
    planned, delivered = rtdose.read(out / PLANNED_FILE), rtdose.read(out / DELIVERED_FILE)
    first = examined.plan.beams[0].number if examined.plan else 0
    marker, _ = read_result(work.folder / INPUT / f"{request_name(first)}.json")
    verdict = verify.judged(examined, planned, delivered, work.parts.criteria, engine=marker.label)
    return report.write(verdict, work.parts.criteria, out, made_at=utc_now())


def _reject(work: Work, folder: Path) -> dict[str, Any]:
    examined = rules.examine(folder, work.parts.machine)
    found = f"{len(examined.violations)} broken"
    verdict = Verdict(examined, (verify.Check("records in order", found, "no rule broken", False),), None)
    return report.write(verdict, work.parts.criteria, results_folder(work), made_at=utc_now())


async def _publish(work: Work, result: dict[str, Any]) -> dict[str, Any]:
    """Report and pictures into the object store, then the verdict into the case."""
    out = work.folder / "results"
    prefix = objects_prefix(work.case_id, work.round)
    shown = [path for path in sorted(out.iterdir()) if path.suffix in SHOWN]
    await asyncio.gather(
        *(work.parts.objects.put(f"{prefix}/{path.name}", path.read_bytes()) for path in shown)
    )
    gamma = result["gamma"] or {}

    def act(conn: sa.Connection) -> None:
        store.update_case(
            conn, work.case_id, utc_now(),
            verdict=result["verdict"], pass_rate=gamma.get("pass_rate"), result=result,
        )  # fmt: skip

    failed = [check["name"] for check in result["checks"] if not check["passed"]]
    data = {"verdict": result["verdict"], "pass_rate": gamma.get("pass_rate"), "failed": failed}
    await work.change("case.verdict", data, key="verdict", act=act)
    return {"verdict": result["verdict"], "pass_rate": gamma.get("pass_rate")}


def objects_prefix(case_id: str, round_: int) -> str:
    """Where the report of a round lies in the object store."""
    return f"cases/{case_id}/{round_}"


VERIFY = Step(
    name="verify",
    run=run,
    deadline_s=900,
    until=0.97,
    reattach="judges the same files again; report and verdict are overwritten by equal ones",
)
REJECT = Step(
    name="verify",
    run=reject,
    deadline_s=900,
    until=0.97,
    reattach="as verify",
)
