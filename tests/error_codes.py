"""Every error that the product can answer with, as the table in docs/reference/errors.md.

`python -m tests.error_codes` writes the table anew between the marks in that file.
"""

import importlib
import pkgutil
from pathlib import Path

import fairlead
from fairlead.kernel.errors import FairleadError

DOCUMENT = Path(__file__).parents[1] / "docs" / "reference" / "errors.md"
BEGIN, END = "<!-- table: python -m tests.error_codes -->", "<!-- /table -->"


def import_everything() -> None:
    """Import every module of the product.

    Left out: migrations, which run only under alembic, and launchers, which run in the
    environments of external programs and define no errors of ours.
    """
    for module in pkgutil.walk_packages(fairlead.__path__, "fairlead."):
        if module.name.startswith("fairlead.migrations") or module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if (error.name or "fairlead").startswith("fairlead"):
                raise


def classes() -> list[type[FairleadError]]:
    """Every error class of the product that has a code of its own."""
    import_everything()
    found, todo = set(), [FairleadError]
    while todo:
        one = todo.pop()
        todo += one.__subclasses__()
        if one.__module__.startswith("fairlead.") and "code" in vars(one):
            found.add(one)
    return sorted(found, key=lambda one: one.code)


def row(one: type[FairleadError]) -> str:
    """One line of the table."""
    meaning = (one.__doc__ or "").strip().splitlines()[0]
    return f"| `{one.code}` | {one.status} | {'yes' if one.retryable else 'no'} | {meaning} |"


def table() -> str:
    """The whole table."""
    head = ["| code | status | retryable | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *(row(one) for one in classes())])


def documented() -> str:
    """The table as the document has it."""
    return DOCUMENT.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")
