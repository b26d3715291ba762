"""The report on one case: pictures, one self-contained HTML page, and the figures as JSON.

Patient identifiers are left out on purpose: a report travels farther than a case.
"""

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.cases import pictures, rtdose
from fairlead.cases.model import Fraction, Violation, Volume
from fairlead.cases.pictures import DIFFERENCE_COLOURS, DOSE_COLOURS, GAMMA_COLOURS, Wash
from fairlead.cases.verify import Comparison, Verdict, VerdictCriteria
from fairlead.kernel.clock import iso


def write(verdict: Verdict, criteria: VerdictCriteria, out: Path, *, made_at: datetime) -> dict[str, Any]:
    """Write report.html, result.json, pictures and both doses into `out`; the content of result.json."""
    out.mkdir(parents=True, exist_ok=True)
    result = summary(verdict)
    drawn = draw(verdict.comparison, criteria) if verdict.comparison else {}
    pictures.write(drawn, out)
    if made := verdict.comparison:
        for name, dose in (("RD.planned.dcm", made.planned), ("RD.delivered.dcm", made.delivered)):
            (out / name).write_bytes(rtdose.encode(dose.values, dose.grid, made.plan, made.ct))
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (out / "report.html").write_text(page(verdict, result, drawn, made_at=made_at), encoding="utf-8")
    return result


def summary(verdict: Verdict) -> dict[str, Any]:
    """The verdict for programs."""
    made = verdict.comparison
    return {
        "verdict": "pass" if verdict.passed else "fail",
        "checks": [
            {"name": c.name, "found": c.found, "limit": c.limit, "passed": c.passed} for c in verdict.checks
        ],
        "violations": violations(verdict.examined.anonymous),
        "gamma": gamma_summary(made.gamma) if made else None,
        "engine": made.engine if made else None,
        "fractions": [fraction_summary(fraction) for fraction in made.fractions] if made else [],
    }


def violations(found: Iterable[Violation]) -> list[dict[str, str]]:
    """Broken rules for programs."""
    return [{"rule": v.rule, "file": v.file, "field": v.field, "message": v.message} for v in found]


def gamma_summary(result: Any) -> dict[str, Any]:
    """A gamma comparison for programs."""
    criteria = result.criteria
    return {
        "pass_rate": round(result.pass_rate, 4),
        "cutoff_percent": criteria.cutoff_percent,
        "points": result.points,
        "passed": result.passed,
        "dose_percent": criteria.dose_percent,
        "distance_mm": criteria.distance_mm,
        "normalisation": criteria.normalisation,
        "mean_gamma": round(result.mean, 4),
        "max_gamma": round(result.largest, 4),
        "max_gamma_searched": criteria.max_gamma,
    }


def fraction_summary(fraction: Fraction) -> dict[str, Any]:
    """A fraction for programs."""
    return {
        "state": fraction.state.value,
        "deliveries": [{"folder": d.label, "beam": d.beam_number} for d in fraction.reference],
        "duplicates": [{"folder": d.label, "beam": d.beam_number} for d in fraction.duplicates],
        "missing_beams": list(fraction.missing_beams),
    }


def draw(made: Comparison, criteria: VerdictCriteria) -> dict[str, bytes]:
    """The pictures by file name; slices go through the isocentre of the first beam."""
    drawings = _drawings(made, criteria)
    # Compressing, half of the work, leaves the interpreter to another thread.
    with ThreadPoolExecutor(max_workers=2) as threads:
        pngs = threads.map(lambda drawing: drawing(), drawings.values())
        return dict(zip(drawings, pngs, strict=True))


def _drawings(made: Comparison, criteria: VerdictCriteria) -> dict[str, Callable[[], bytes]]:
    x, y, z = made.plan.beams[0].isocentre_mm
    ct, planned = pictures.axial(made.ct, z), pictures.axial(made.planned, z)
    axial, coronal = pictures.ground(ct), pictures.ground(pictures.coronal(made.ct, y))
    delivered = pictures.axial(made.delivered, z)
    peak = float(made.planned.values.max())
    shown = math.ceil(peak * 10.5) / 10
    lines = tuple(share * peak for share in (0.2, 0.5, 0.8, 0.95))
    dose = Wash(0.0, shown, DOSE_COLOURS, "Gy", 0.05 * peak, lines)
    percent = _percent(planned, delivered, peak)
    reach = max(5.0, math.ceil(float(np.nanmax(np.abs(percent.values)))))
    difference = Wash(-reach, reach, DIFFERENCE_COLOURS, "%", opacity=0.8)
    gamma = Wash(0.0, criteria.gamma.max_gamma, GAMMA_COLOURS, "gamma", opacity=0.85)
    g = criteria.gamma
    where = f"axial slice at z = {z:g} mm, through the isocentre"
    isodoses = f"{where}; lines at 20, 50, 80 and 95 % of the maximum"
    gammas = Volume(made.planned.grid, made.gamma.values, "")
    return {
        "dose-planned.png": partial(
            pictures.slice_png, axial, planned, dose, title="Planned dose", subtitle=isodoses
        ),
        "dose-delivered.png": partial(
            pictures.slice_png, axial, delivered, dose, title="Delivered dose", subtitle=isodoses
        ),
        "difference.png": partial(
            pictures.slice_png,
            axial,
            percent,
            difference,
            title="Delivered minus planned",
            subtitle=f"{where}; percent of the planned maximum",
        ),
        "gamma.png": partial(
            pictures.slice_png,
            axial,
            pictures.axial(gammas, z),
            gamma,
            title=f"Gamma {g.dose_percent:g} % / {g.distance_mm:g} mm",
            subtitle=f"{where}; above 1 fails",
            mark=1.0,
        ),
        "gamma-coronal.png": partial(
            pictures.slice_png,
            coronal,
            pictures.coronal(gammas, y),
            gamma,
            mark=1.0,
            title=f"Gamma {g.dose_percent:g} % / {g.distance_mm:g} mm",
            subtitle=f"coronal slice at y = {y:g} mm, through the isocentre",
        ),
        "gamma-histogram.png": partial(pictures.gamma_histogram_png, made.gamma.values),
        "depth-dose.png": partial(pictures.depth_png, planned, delivered, ct, x_mm=x, y_mm=y),
        "logs.png": partial(
            pictures.logs_png,
            made.deviations,
            position_mm=criteria.position_mm,
            mu_percent=criteria.layer_mu_percent,
        ),
    }


def _percent(planned: pictures.Slice, delivered: pictures.Slice, peak: float) -> pictures.Slice:
    values = (100.0 * (delivered.values.astype(np.float64) - planned.values) / peak).astype(np.float32)
    # Where neither dose matters there is nothing to see but noise.
    values[np.maximum(planned.values, delivered.values) < 0.02 * peak] = np.nan
    if np.isnan(values).all():
        values = np.zeros_like(values)
    return replace(planned, values=values)


_STYLE = """
:root{color-scheme:light;--ink:#1f2937;--faint:#64748b;--rule:#e2e8f0;--good:#16805c;--bad:#c81e28}
*{box-sizing:border-box}
body{margin:0;background:#f1f5f9;color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1220px;margin:0 auto;padding:28px 20px 60px}
header{display:flex;gap:24px;align-items:center;justify-content:space-between;flex-wrap:wrap}
h1{font-size:24px;margin:0}h2{font-size:17px;margin:0 0 12px}p{margin:4px 0}
.faint{color:var(--faint)}
.verdict{font-size:22px;font-weight:700;color:#fff;padding:10px 26px;border-radius:8px}
.pass{background:var(--good)}.fail{background:var(--bad)}
section{background:#fff;border:1px solid var(--rule);border-radius:10px;padding:18px 20px;margin-top:18px}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:6px 10px;border-bottom:1px solid var(--rule);vertical-align:top}
th{font-weight:600;color:var(--faint);font-size:13px}
.n{text-align:right;font-variant-numeric:tabular-nums}
.ok{color:var(--good);font-weight:600}.no{color:var(--bad);font-weight:600}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr));gap:14px}
img{display:block;width:100%;max-width:1140px;height:auto}
.grid img{max-width:560px;margin:0 auto}.wide{margin-top:14px}
.warn{border-left:5px solid #d97706;background:#fffbeb;padding:10px 16px;border-radius:6px;margin-top:18px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 22px;margin:0}
dt{color:var(--faint)}dd{margin:0;overflow-wrap:anywhere}.scroll{overflow-x:auto}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
Cell = tuple[str, str]  # text, and the class that shows it


def _table(title: str, head: Sequence[Cell], rows: Iterable[Sequence[Cell]]) -> str:
    """A section with one table; every text is escaped here."""

    def line(cells: Sequence[Cell], tag: str) -> str:
        return "".join(f"<{tag} class='{kind}'>{escape(text)}</{tag}>" for text, kind in cells)

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return (
        f"<section><h2>{escape(title)}</h2><div class='scroll'><table>"
        f"<tr>{line(head, 'th')}</tr>{body}</table></div></section>"
    )


def page(
    verdict: Verdict, result: Mapping[str, Any], drawn: Mapping[str, bytes], *, made_at: datetime
) -> str:
    """The whole report as one HTML page that loads nothing from anywhere."""
    word = "PASS" if verdict.passed else "FAIL"
    made = verdict.comparison
    idle = "The records are not in order, so no dose was calculated. Not for clinical use."
    parts = [
        _header(word, made_at),
        f"<p class='warn'><b>{escape(made.engine if made else idle)}</b></p>",
        _checks(verdict),
        _violations(result),
    ]
    if made:
        parts += [_pictures(drawn), _layers(made), _provenance(made)]
    body = "\n".join(parts)
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{word}: planned and delivered dose</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _header(word: str, made_at: datetime) -> str:
    return (
        "<header><div><h1>Planned and delivered dose</h1>"
        f"<p class='faint'>made {escape(iso(made_at))} · "
        "patient identifiers are left out on purpose</p></div>"
        f"<div class='verdict {word.lower()}' role='status'>{word}</div></header>"
    )


def _checks(verdict: Verdict) -> str:
    head = (("criterion", ""), ("found", "n"), ("limit", "n"), ("outcome", ""))
    rows = [
        (
            (check.name, ""),
            (check.found, "n"),
            (check.limit, "n"),
            ("✓ pass", "ok") if check.passed else ("✗ fail", "no"),
        )
        for check in verdict.checks
    ]
    return _table("Verdict", head, rows)


def _violations(result: Mapping[str, Any]) -> str:
    if not result["violations"]:
        return ""
    keys = ("rule", "file", "field", "message")
    rows = [[(str(found[key]), "") for key in keys] for found in result["violations"]]
    return _table("Broken rules", [(key, "") for key in keys], rows)


_ALT = {
    "dose-planned.png": "Planned dose on the CT, axial slice",
    "dose-delivered.png": "Delivered dose on the CT, axial slice",
    "difference.png": "Difference of both doses, axial slice",
    "gamma.png": "Gamma map, axial slice",
    "gamma-coronal.png": "Gamma map, coronal slice",
    "gamma-histogram.png": "Histogram of gamma",
    "depth-dose.png": "Depth dose and lateral profile of both doses",
    "logs.png": "Spot position and MU deviations from the delivery logs",
}


def _pictures(drawn: Mapping[str, bytes]) -> str:
    def image(name: str) -> str:
        content = base64.b64encode(drawn[name]).decode("ascii")
        return f"<img alt='{_ALT[name]}' src='data:image/png;base64,{content}'>"

    small = "".join(
        image(name)
        for name in (
            "dose-planned.png",
            "dose-delivered.png",
            "difference.png",
            "gamma.png",
            "gamma-coronal.png",
            "gamma-histogram.png",
        )
    )
    return (
        f"<section><h2>Dose</h2><div class='grid'>{small}</div>"
        f"<div class='wide'>{image('depth-dose.png')}</div></section>"
        f"<section><h2>Delivery</h2>{image('logs.png')}</section>"
    )


def _layers(made: Comparison) -> str:
    names = (
        "beam",
        "layer",
        "MeV",
        "planned MU",
        "delivered MU",
        "MU %",
        "worst position mm",
        "worst size %",
        "spots without beam",
    )
    rows = [
        [
            (text, "n")
            for text in (
                str(layer.beam_number),
                str(layer.layer),
                f"{layer.energy_mev:.2f}",
                f"{layer.planned_mu:.3f}",
                f"{layer.delivered_mu:.3f}",
                f"{layer.mu_percent:+.2f}",
                f"{layer.max_position_mm:.2f}",
                f"{layer.max_size_percent:.2f}",
                f"{layer.undelivered_spots} of {len(layer.spots)}",
            )
        ]
        for layer in made.deviations
    ]
    return _table("Layers", [(name, "n") for name in names], rows)


def _provenance(made: Comparison) -> str:
    beams = ", ".join(
        f"{beam.number} (gantry {beam.gantry_deg:g}°, {len(beam.layers)} layers, "
        f"{beam.meterset:.2f} {beam.unit})"
        for beam in made.plan.beams
    )
    grid = made.planned.grid
    spacing = " by ".join(f"{size:g}" for size in grid.spacing_mm)
    found = f"{made.gamma.points}, mean {made.gamma.mean:.3f}, largest {made.gamma.largest:.3f}"
    entries = (
        ("plan (SHA-256 of its UID)", hashlib.sha256(made.plan.uid.encode()).hexdigest()[:16]),
        ("treatment beams", beams),
        ("patient position", made.plan.patient_position),
        ("fractions planned", str(made.plan.fractions)),
        ("doses shown", "physical dose of one fraction"),
        ("dose grid", f"{' by '.join(map(str, grid.shape[::-1]))} voxels of {spacing} mm"),
        ("fractions found", ", ".join(fraction.state.value for fraction in made.fractions)),
        ("gamma points", found),
    )
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entries)
    return f"<section><h2>Where the figures come from</h2><dl>{rows}</dl></section>"
