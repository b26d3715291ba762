"""Options of engines: checked models, and one error that names what is wrong."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fairlead.cases.engines.port import EngineOptionsInvalid


class EngineOptions(BaseModel):
    """Options of one engine; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Options = TypeVar("Options", bound=EngineOptions)


def validated(model: type[Options], options: Mapping[str, Any], engine: str) -> Options:
    """`options` as `model`. Raises EngineOptionsInvalid."""
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False)
        ]
    raise EngineOptionsInvalid(
        f"The options of the engine {engine} are not in order: {'; '.join(faults)}.",
        remedy="docs/how-to/dose-engines.md explains every option.",
        engine=engine,
        faults=faults,
    )


def read(engine: str, given: Sequence[str], file: Path | None) -> dict[str, Any]:
    """Options from a TOML file, overruled by `given` ("key=value", the value as JSON or else as it is).

    Raises EngineOptionsInvalid for what cannot be read; what the options mean is the engine's to check.
    """
    options: dict[str, Any] = {}
    if file is not None:
        try:
            options = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise EngineOptionsInvalid(
                f"The options of the engine {engine} cannot be read from {file}: {reason}.",
                remedy="Name a TOML file; docs/how-to/dose-engines.md explains every option.",
            ) from None
    for item in given:
        key, sign, value = item.partition("=")
        if not sign or not key.strip():
            raise EngineOptionsInvalid(
                f"{item!r} is not KEY=VALUE.", remedy="Write for example protons=100000."
            )
        try:
            options[key.strip()] = json.loads(value)
        except ValueError:
            options[key.strip()] = value
    return options
