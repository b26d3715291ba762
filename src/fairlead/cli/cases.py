"""`fairlead cases …`: what works on files and nothing else; `casework` adds what needs a server.

Exit codes: 0 done, valid or passed · 1 error, violations or a failed verdict.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli import casework, output
from fairlead.cli.dashboard import dashboard

if TYPE_CHECKING:
    from fairlead.cases.machine import Machine

app = typer.Typer(
    help="Treatment cases: validate, calculate and compare offline; watch and steer the pipeline.",
    no_args_is_help=True,
)
casework.register(app)
app.command()(dashboard)

CaseDir = Annotated[Path, typer.Argument(metavar="CASE_DIR", help="The case folder: plan, CT, deliveries.")]
MachineFile = Annotated[
    Path | None,
    typer.Option("--machine", help="Machine file; default: the synthetic demo rooms.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
DosePercent = Annotated[float, typer.Option(help="Dose criterion in percent.")]
DistanceMm = Annotated[float, typer.Option(help="Distance criterion in mm.")]
Cutoff = Annotated[
    float, typer.Option(help="Leave out points below this percentage of the largest reference dose.")
]
Normalisation = Annotated[
    str, typer.Option(help="global: percent of the largest reference dose; local: of each point's own.")
]
MaxGamma = Annotated[
    float, typer.Option(help="Search no farther than this; larger gammas are given as this.")
]


EngineOption = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the engine; may be repeated.")
]
EngineOptionsFile = Annotated[
    Path | None, typer.Option(help="TOML file with options of the engine.", show_default=False)
]


def _machine(path: Path | None) -> "Machine":
    from fairlead.cases import machine

    return machine.load(path)


@app.command()
def validate(case: CaseDir, machine: MachineFile = None, as_json: AsJson = False) -> None:
    """Check a case folder against every rule; exit code 1 where one is broken."""
    from fairlead.cases.rules import examine

    found = examine(case, _machine(machine)).violations
    if as_json:
        shown = [{"rule": v.rule, "file": v.file, "field": v.field, "message": v.message} for v in found]
        output.as_json({"valid": not found, "violations": shown})
    else:
        _print_violations(found)
    raise typer.Exit(1 if found else 0)


def _print_violations(found: Any) -> None:
    from rich.markup import escape

    out = output.console()
    for v in found:
        place = f"{v.file}: {v.field}" if v.field else v.file
        out.print(f"[red]✗[/] {escape(place)}  {escape(v.message)}  [dim]({escape(v.rule)})[/]")
    out.print(f"[red]{len(found)} broken[/]" if found else "[green]✓[/] valid")


@app.command()
def dose(
    plan: Annotated[Path, typer.Option(help="RT Ion Plan.")],
    ct: Annotated[Path, typer.Option(help="Folder of the CT slices.")],
    out: Annotated[Path, typer.Option(help="RT Dose file to write: one fraction, physical dose.")],
    engine: Annotated[str, typer.Option(help="Dose engine.")] = "reference",
    machine: MachineFile = None,
    room: Annotated[
        str | None, typer.Option(help="Use this room's beam, whatever the plan's machine is called.")
    ] = None,
    spacing_mm: Annotated[
        float | None, typer.Option(help="Coarser dose grid; default: the CT's own.", min=0.5, max=50)
    ] = None,
    beams_out: Annotated[Path | None, typer.Option(help="Folder for one RT Dose per beam as well.")] = None,
    option: EngineOption = None,
    options_file: EngineOptionsFile = None,
    deadline_s: Annotated[
        float | None, typer.Option(help="Give up after this many seconds.", min=0.1, show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Calculate the dose of one fraction of a plan."""
    from fairlead.cases import offline
    from fairlead.cases.engines import Control

    result = offline.calculate(
        plan,
        ct,
        out,
        engine=engine,
        machine=_machine(machine),
        room=room,
        spacing_mm=spacing_mm,
        beams_out=beams_out,
        options=_engine_options(engine, option or [], options_file),
        control=Control.within(deadline_s),
    )
    if as_json:
        output.as_json(result)
    else:
        output.console().print(
            f"wrote {out}: largest dose {result['max_gy']:.4f} Gy in {result['seconds']:.1f} s\n"
            f"[dim]{result['engine']}[/]"
        )


def _engine_options(engine: str, given: list[str], file: Path | None) -> dict[str, Any]:
    """Options from the file and the command line; where mcsquare may install its program, if not told."""
    from fairlead.cases.engines.options import read
    from fairlead.kernel.settings import load_settings

    options = read(engine, given, file)
    if engine == "mcsquare" and not {"toolenvs", "program_dir"} & set(options):
        options["toolenvs"] = load_settings().toolenvs
    return options


@app.command()
def gamma(
    reference: Annotated[Path, typer.Argument(help="RT Dose that is right.")],
    evaluated: Annotated[Path, typer.Argument(help="RT Dose that is judged.")],
    dose_percent: DosePercent = 3.0,
    distance_mm: DistanceMm = 3.0,
    cutoff_percent: Cutoff = 10.0,
    normalisation: Normalisation = "global",
    max_gamma: MaxGamma = 2.0,
    as_json: AsJson = False,
) -> None:
    """Compare two doses by gamma index."""
    from fairlead.cases import gamma as kernel
    from fairlead.cases import rtdose
    from fairlead.cases.report import gamma_summary

    criteria = kernel.criteria(
        dose_percent=dose_percent,
        distance_mm=distance_mm,
        cutoff_percent=cutoff_percent,
        normalisation=normalisation,
        max_gamma=max_gamma,
    )
    result = gamma_summary(kernel.compare(rtdose.read(reference), rtdose.read(evaluated), criteria))
    if as_json:
        output.as_json(result)
    else:
        output.console().print(
            f"{result['pass_rate']:.2f} % of {result['points']} points pass "
            f"{dose_percent:g} %/{distance_mm:g} mm ({normalisation}, above {cutoff_percent:g} %); "
            f"mean {result['mean_gamma']:.3f}, largest {result['max_gamma']:.3f}"
        )


@app.command()
def generate(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="New folder for the case.", show_default=False)
    ] = None,
    fault: Annotated[str, typer.Option(help="Fault by name; 'help' lists them.")] = "none",
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.", min=0)] = 1,
    machine: MachineFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a synthetic case: CT phantom, RT Ion Plan, delivery logs, and a fault where wanted."""
    from fairlead.cases import faults

    if fault == "help":
        _print_faults(as_json=as_json)
        return
    if directory is None:
        raise typer.BadParameter("name the folder to write", param_hint="DIR")
    written = faults.generate_case(directory, _machine(machine), fault=fault, seed=seed)
    if as_json:
        output.as_json(
            {"folder": str(written.folder), "fault": fault, "seed": seed, "plan": written.plan_file.name}
        )
    else:
        output.console().print(f"wrote {written.folder} (fault: {fault}, seed: {seed})")


def _print_faults(*, as_json: bool) -> None:
    from fairlead.cases.faults import FAULTS

    if as_json:
        output.as_json(
            [{"name": f.name, "kind": f.kind, "what": f.what, "rule": f.rule or None} for f in FAULTS]
        )
        return
    width = max(len(fault.name) for fault in FAULTS)
    for fault in FAULTS:
        rule = f"  [dim]({fault.rule})[/]" if fault.rule else ""
        output.console().print(f"{fault.name:<{width}}  {fault.kind:<8}  {fault.what}{rule}")


@app.command()
def interpret(
    case: CaseDir,
    machine: MachineFile = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for one CSV per layer: time_ms, x_mm, y_mm, count.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read the delivery logs of the reference fraction: deviations per layer and spot."""
    from fairlead.cases import offline

    result = offline.interpret_case(case, _machine(machine), out)
    if as_json:
        output.as_json(result)
    else:
        for layer in result["layers"]:
            output.console().print(
                f"beam {layer['beam']} layer {layer['layer']:>3} {layer['energy_mev']:7.2f} MeV  "
                f"{layer['delivered_mu']:8.3f} of {layer['planned_mu']:8.3f} MU "
                f"({layer['mu_percent']:+.2f} %)  "
                f"position ≤ {layer['max_position_mm']:.2f} mm  size ≤ {layer['max_size_percent']:.1f} %"
            )
        _print_violations_of(result)
    raise typer.Exit(0 if result["valid"] else 1)


def _print_violations_of(result: dict[str, Any]) -> None:
    for v in result["violations"]:
        output.console(stderr=True).print(
            f"{v['file']}: {v['field']}: {v['message']}  ({v['rule']})", markup=False
        )


@app.command()
def report(
    case: CaseDir,
    out: Annotated[Path, typer.Option(help="Folder for report.html, pictures, doses and result.json.")],
    machine: MachineFile = None,
    ct: Annotated[
        Path | None, typer.Option(help="CT folder; default: CT in the case folder.", show_default=False)
    ] = None,
    engine: Annotated[str, typer.Option(help="Dose engine.")] = "reference",
    dose_percent: DosePercent = 3.0,
    distance_mm: DistanceMm = 3.0,
    cutoff_percent: Cutoff = 10.0,
    normalisation: Normalisation = "global",
    pass_rate_percent: Annotated[float, typer.Option(help="Least share of points that pass.")] = 95.0,
    position_mm: Annotated[float, typer.Option(help="Largest spot position deviation.")] = 2.0,
    layer_mu_percent: Annotated[float, typer.Option(help="Largest MU deviation of a layer.")] = 3.0,
    spot_size_percent: Annotated[float, typer.Option(help="Largest spot size deviation.")] = 15.0,
    option: EngineOption = None,
    options_file: EngineOptionsFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare planned with delivered dose; exit code 1 where the verdict is fail."""
    from fairlead.cases import gamma as kernel
    from fairlead.cases import offline
    from fairlead.cases.verify import VerdictCriteria

    criteria: VerdictCriteria = VerdictCriteria(
        gamma=kernel.criteria(
            dose_percent=dose_percent,
            distance_mm=distance_mm,
            cutoff_percent=cutoff_percent,
            normalisation=normalisation,
        ),
        pass_rate_percent=pass_rate_percent,
        position_mm=position_mm,
        layer_mu_percent=layer_mu_percent,
        spot_size_percent=spot_size_percent,
    )
    options = _engine_options(engine, option or [], options_file)
    result = offline.report_case(
        case, out, _machine(machine), criteria, engine=engine, ct=ct, options=options
    )
    if as_json:
        output.as_json(result)
    else:
        _print_verdict(result, out)
    raise typer.Exit(0 if result["verdict"] == "pass" else 1)


def _print_verdict(result: dict[str, Any], out: Path) -> None:
    console = output.console()
    for check in result["checks"]:
        mark = "[green]✓[/]" if check["passed"] else "[red]✗[/]"
        console.print(f"{mark} {check['name']}: {check['found']} (limit {check['limit']})")
    _print_violations_of(result)
    colour = "green" if result["verdict"] == "pass" else "red"
    console.print(f"[bold {colour}]{result['verdict'].upper()}[/]  {out / 'report.html'}")


@app.command()
def pseudonymise(
    case: CaseDir,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the copy.")],
    machine: MachineFile = None,
    key_file: Annotated[
        Path | None,
        typer.Option(help="Key of the pseudonyms, 16 bytes or more; default: a random one, not kept."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy a valid case without its patient: identifiers replaced, UIDs mapped, free text dropped."""
    from fairlead.cases import offline

    result = offline.pseudonymise_case(case, out, _machine(machine), key_file)
    if as_json:
        output.as_json(result)
    else:
        output.console().print(f"wrote {out}: {result['deliveries']} deliveries, valid: {result['valid']}")
