"""Warming a worker up: what cannot be installed now is said, and stops nothing."""

from pathlib import Path

import structlog

from fairlead.support import opening
from fairlead.support.answers.tools import SERVERS


async def test_servers_that_cannot_be_installed_are_named_and_the_worker_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "toolenvs"
    folder.write_text("a file where the folder should be")
    with structlog.testing.capture_logs() as logs:
        await opening.warm(folder)
    said = [entry for entry in logs if entry["event"] == "support.tool_server_not_installed"]
    assert [entry["server"] for entry in said] == list(SERVERS)
    assert all(str(entry["code"]).startswith("toolenv.") for entry in said)
