"""Starts real sandboxes for any suite. One environment per machine, one process per `start_sandbox`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fairlead.sandbox import process
from tests.services import free_port

ACCOUNT = "111122223333"


def toolenvs() -> Path:
    """Where environments of external programs are shared between test runs."""
    return Path(os.environ.get("FAIRLEAD_TOOLENV_DIR") or Path(__file__).parents[1] / ".toolenvs")


@dataclass
class SandboxProcess:
    """A running sandbox that can be killed and started again on the same port and state."""

    options: process.Options
    running: process.Sandbox

    @property
    def endpoint_url(self) -> str:
        return self.running.endpoint_url

    @property
    def pid(self) -> int:
        return self.running.pid

    @property
    def port(self) -> int:
        return self.running.port

    def kill(self) -> None:
        """kill -9."""
        self.running.kill()

    def stop(self) -> None:
        self.running.stop()

    def restart(self) -> None:
        """Start again after `kill` or `stop` (or stop first); same address, same state."""
        if self.running.is_running:
            self.running.stop()
        self.running = _started(self.options)

    def aws(self, account: str = ACCOUNT, region: str = "us-east-1") -> dict[str, Any]:
        """Keyword arguments of `boto3.client` for this sandbox."""
        return {
            "endpoint_url": self.endpoint_url,
            "region_name": region,
            "aws_access_key_id": account,
            "aws_secret_access_key": "sandbox",
        }


def _started(options: process.Options) -> process.Sandbox:
    return process.start(options, python=process.environment(toolenvs()), deadline_s=180.0)


@contextmanager
def start_sandbox(tmp_path: Path, **options: Any) -> Iterator[SandboxProcess]:
    """A sandbox with its state in `tmp_path`; `options` are those of `process.Options`."""
    defaults = {"port": free_port(), "latency_ms": 20.0}
    settings = process.Options(data_dir=tmp_path / "sandbox", **{**defaults, **options})
    running = _started(settings)
    sandbox = SandboxProcess(replace(settings, port=running.port), running)
    try:
        yield sandbox
    finally:
        sandbox.stop()
