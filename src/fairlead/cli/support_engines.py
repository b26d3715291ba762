"""`fairlead support engines …`: what can screen an account, and installing what is not here yet."""

from typing import Annotated

import typer

from fairlead.cli import output
from fairlead.cli.support_options import Json

app = typer.Typer(name="engines", help="Screening engines.", no_args_is_help=True)


def register(support: typer.Typer) -> None:
    """Add `engines` to the commands of `support`."""
    support.add_typer(app)


@app.command("list")
def list_(json_: Json = False) -> None:
    """The engines, and what each would install on its first screening."""
    from fairlead.kernel.settings import load_settings
    from fairlead.support.screenings import ENGINES, INSTALLS, installs, workshop

    here = workshop(load_settings())
    found = [
        {
            "engine": kind.name,
            "ready": installs(kind.name, here) is None,
            "size": INSTALLS[kind.name][1] if kind.name in INSTALLS else None,
        }
        for kind in ENGINES
    ]
    if json_:
        output.as_json({"engines": found})
        return
    for one in found:
        state = "ready" if one["ready"] else f"not installed ({one['size']})"
        output.console().print(f"{one['engine']:18s} {state}", markup=False)


@app.command()
def install(
    engine: Annotated[str, typer.Argument(help="prowler or service-screener.")], json_: Json = False
) -> None:
    """Install what an engine needs now, instead of at its first screening."""
    from fairlead.kernel import toolenv
    from fairlead.kernel.settings import load_settings
    from fairlead.support.screenings import INSTALLS, installs, known_engine, workshop

    here = workshop(load_settings())
    name = known_engine(engine).name
    size = installs(name, here)
    if size:
        say_size(name, size)
        toolenv.ensure(INSTALLS[name][0], root=here.toolenvs)
    if json_:
        output.as_json({"engine": name, "installed": bool(size)})
    else:
        output.console().print(f"{name} is {'installed' if size else 'ready'}.", markup=False)


def say_size(engine: str, size: str) -> None:
    """Plainly, before it is done."""
    output.console(stderr=True).print(
        f"{engine} is not here yet: about {size} are downloaded and installed beside Fairlead, each package "
        "checked against its hash.",
        markup=False,
    )
