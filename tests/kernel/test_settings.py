"""Settings: where they come from, and that every wrong key is named before anything starts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from fairlead.kernel.errors import SettingsInvalid
from fairlead.kernel.settings import Settings, load_settings

DOC = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, about in model.model_fields.items():
        kind = about.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from variables(kind, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


def test_every_setting_is_documented_and_nothing_else() -> None:
    documented = {
        line.split("`")[1] for line in DOC.read_text().splitlines() if line.startswith("| `FAIRLEAD_")
    }
    assert documented == set(variables(Settings, "FAIRLEAD_"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_environment_wins_over_the_file_and_the_file_over_defaults(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "fairlead.toml").write_text("[aws.mcp]\nreaders = 3\nwriters = 4\n")
    monkeypatch.setenv("FAIRLEAD_AWS__MCP__READERS", "5")
    found = load_settings().aws.mcp
    assert (found.readers, found.writers, found.tool) == (5, 4, "call_aws")


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        pytest.param("FAIRLEAD_NO_SUCH", "1", "FAIRLEAD_NO_SUCH", id="unknown variable"),
        pytest.param("FAIRLEAD_AWS__NO_SUCH", "1", "aws.no_such", id="unknown nested variable"),
        pytest.param("FAIRLEAD_AWS__MCP__READERS", "many", "aws.mcp.readers", id="not a number"),
        pytest.param("FAIRLEAD_HTTP__PORT", "70000", "http.port", id="out of range"),
        pytest.param("FAIRLEAD_CONFIG", "/no/such/file.toml", "/no/such/file.toml", id="missing file"),
    ],
)
def test_a_wrong_setting_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid) as failure:
        load_settings()
    assert named in failure.value.message
    assert failure.value.remedy


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("unknown_key = 1", "unknown_key", id="unknown key"),
        pytest.param("[aws\nregion = 1", "not valid TOML", id="malformed"),
    ],
)
def test_a_wrong_file_is_named(folder: Path, text: str, named: str) -> None:
    (folder / "fairlead.toml").write_text(text)
    with pytest.raises(SettingsInvalid, match=named):
        load_settings()


def test_a_wrong_secret_is_not_quoted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_AWS__SECRET_ACCESS_KEY", "hunter2-hunter2")
    monkeypatch.setenv("FAIRLEAD_AWS__MCP__READERS", "hunter2-hunter2")
    with pytest.raises(SettingsInvalid) as failure:
        load_settings()
    assert "hunter2" not in str(failure.value.problem())
    monkeypatch.setenv("FAIRLEAD_AWS__MCP__READERS", "1")
    assert "hunter2" not in repr(load_settings())
