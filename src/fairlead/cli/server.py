"""`fairlead serve`, `api`, `worker`, `sandbox`: the processes of the product."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli import output

if TYPE_CHECKING:
    from fairlead.changes.mcp import Gateway
    from fairlead.kernel.settings import Settings
    from fairlead.sandbox.process import Sandbox

SANDBOX_ACCOUNT = "111122223333"
RESTART_FIRST_S, RESTART_MOST_S = 0.25, 15.0
STEADY_S = 5.0  # a worker that lived longer is not the reason why it died

Json = Annotated[bool, typer.Option("--json", help="Say what was started as one line of JSON.")]
UntilEof = Annotated[
    bool, typer.Option("--until-eof", help="Also stop when standard input ends: for a parent process.")
]
Port = Annotated[
    int | None, typer.Option(help="Port of the API; 0: any free one. Default: FAIRLEAD_HTTP__PORT, 8700.")
]
DataDir = Annotated[Path | None, typer.Option(help="Where everything is kept. Default: FAIRLEAD_DATA_DIR.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the top of the command line."""
    for command in (serve, api, worker, sandbox):
        app.command(rich_help_panel="Server")(command)


def serve(
    port: Port = None,
    data_dir: DataDir = None,
    with_sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Start a local AWS too and use it.")
    ] = False,
    until_eof: UntilEof = False,
    json_: Json = False,
) -> None:
    """Run everything on this machine: API, one worker and, if asked, a local AWS."""
    settings = _settings(port, data_dir)
    asyncio.run(_serve(settings, with_sandbox=with_sandbox, until_eof=until_eof, as_json=json_))


def api(
    port: Port = None, data_dir: DataDir = None, until_eof: UntilEof = False, json_: Json = False
) -> None:
    """Run only the API; workers run elsewhere."""
    settings = _settings(port, data_dir)

    async def run() -> None:
        async with _serving_api(settings) as started:
            _announce(started, as_json=json_)
            await until_stopped(until_eof)

    asyncio.run(run())


def worker(data_dir: DataDir = None, until_eof: UntilEof = False, json_: Json = False) -> None:
    """Run one worker: it executes runs. Any number may work on one database."""
    settings = _settings(None, data_dir)

    async def run() -> None:
        from fairlead.kernel.telemetry import log, serving_metrics

        with serving_metrics(settings.runs.metrics_port) as metrics_port:
            if metrics_port is not None:
                log.info("worker.metrics", port=metrics_port)
            async with _aws(settings) as gateway:
                compose = await asyncio.to_thread(import_module, "fairlead.compose")
                async with (
                    compose.open_fairlead(settings) as fairlead,
                    compose.working(fairlead, gateway) as executor,
                ):
                    if json_:
                        _announce({"executor_id": executor, "pid": os.getpid()}, as_json=True)
                    await until_stopped(until_eof)

    asyncio.run(run())


@asynccontextmanager
async def _aws(settings: "Settings") -> AsyncIterator["Gateway"]:
    """The AWS MCP servers, already starting: they need seconds, and so does importing the rest of a worker.

    After a crash both stand between the kill and the moment at which work goes on.
    """
    from fairlead.changes.mcp import open_gateway

    async with open_gateway(
        settings.aws, toolenv_root=settings.toolenvs, data_dir=settings.data_dir
    ) as gateway:
        warming = [asyncio.create_task(gateway.warm())] if settings.aws.mcp.warm else []
        try:
            yield gateway
        finally:
            for task in warming:
                task.cancel()
            await asyncio.gather(*warming, return_exceptions=True)


def sandbox(
    port: Annotated[
        int | None, typer.Option(help="Port on loopback; 0: any free one. Default: 8710.")
    ] = None,
    data_dir: DataDir = None,
    latency_ms: Annotated[
        float, typer.Option(help="How long a Cloud Control request stays in progress.")
    ] = 50.0,
    enforce_iam: Annotated[
        bool, typer.Option("--enforce-iam", help="Check trust and identity policies.")
    ] = False,
    json_: Json = False,
) -> None:
    """Run the local AWS alone, on loopback, until Ctrl-C."""
    from fairlead.sandbox.process import DEFAULT_PORT, Options, serve_sandbox

    settings = _settings(None, data_dir)
    options = Options(
        data_dir=settings.data_dir / "sandbox",
        port=DEFAULT_PORT if port is None else port,
        latency_ms=latency_ms,
        enforce_iam=enforce_iam,
    )

    def ready(running: "Sandbox") -> None:
        _announce({"sandbox_url": running.endpoint_url, "sandbox_pid": running.pid}, as_json=json_)

    serve_sandbox(options, toolenvs=settings.toolenvs, ready=ready)


def _settings(port: int | None, data_dir: Path | None) -> "Settings":
    from fairlead.kernel import telemetry
    from fairlead.kernel.settings import load_settings

    overrides: dict[str, str] = {}
    if port is not None:
        overrides["FAIRLEAD_HTTP__PORT"] = str(port)
    if data_dir is not None:
        overrides["FAIRLEAD_DATA_DIR"] = str(data_dir.absolute())
    # Through the environment, so that the processes that we start see the same.
    os.environ.update(overrides)  # noqa: TID251
    settings = load_settings()
    telemetry.configure(level=settings.log_level, form=settings.log_format)
    return settings


async def _serve(settings: "Settings", *, with_sandbox: bool, until_eof: bool, as_json: bool) -> None:
    started: dict[str, Any] = {}
    async with _sandbox_if(with_sandbox, settings, started) as variables, _serving_api(settings) as about_api:
        started |= about_api
        worker_process = _Worker(variables)
        supervision = asyncio.create_task(worker_process.keep_running())
        try:
            await worker_process.started.wait()
            started["worker_pid"] = worker_process.pid
            _announce(started, as_json=as_json)
            await until_stopped(until_eof)
        finally:
            supervision.cancel()
            await asyncio.gather(supervision, return_exceptions=True)
            await worker_process.stop()


@asynccontextmanager
async def _sandbox_if(
    wanted: bool, settings: "Settings", started: dict[str, Any]
) -> AsyncIterator[dict[str, str]]:
    """The settings with which the worker finds AWS: the sandbox's where one is wanted."""
    if not wanted:
        yield {}
        return
    from fairlead.sandbox.process import Options, environment, start

    python = await asyncio.to_thread(environment, settings.toolenvs)
    options = Options(data_dir=settings.data_dir / "sandbox")
    running = await asyncio.to_thread(lambda: start(options, python=python))
    started |= {"sandbox_url": running.endpoint_url, "sandbox_pid": running.pid}
    try:
        yield {
            "FAIRLEAD_AWS__ENDPOINT_URL": running.endpoint_url,
            "FAIRLEAD_AWS__ACCESS_KEY_ID": SANDBOX_ACCOUNT,  # the sandbox reads the account from it
            "FAIRLEAD_AWS__SECRET_ACCESS_KEY": "sandbox",
            "FAIRLEAD_AWS__MCP__CALLS_PER_SECOND": "500",  # the limit spares AWS's quotas; here are none
        }
    finally:
        await asyncio.to_thread(running.stop)


@asynccontextmanager
async def _serving_api(settings: "Settings") -> AsyncIterator[dict[str, Any]]:
    from fairlead.api.server import serving
    from fairlead.compose import open_fairlead, serving_app
    from fairlead.kernel.projects.accounts import ensure_admin

    async with open_fairlead(settings) as fairlead:
        with fairlead.database.transaction() as conn:
            username, password = ensure_admin(conn)
        at = settings.http
        async with serving_app(fairlead) as app, serving(app, host=at.host, port=at.port) as url:
            yield {
                "url": url,
                "username": username,
                "password": password,
                "data_dir": str(settings.data_dir),
                "pid": os.getpid(),
            }


class _Worker:
    """A worker process of ours that is started again when it dies."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables
        self._process: asyncio.subprocess.Process | None = None
        self.started = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Process id, while it runs."""
        return self._process.pid if self._process else None

    async def keep_running(self) -> None:
        """Start it, and start it again whenever it ends; pauses grow while it does not stay up."""
        from fairlead.kernel import telemetry
        from fairlead.kernel.settings import child_environment

        pause_s = RESTART_FIRST_S
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "fairlead.cli.main",
                "worker",
                "--until-eof",
                stdin=asyncio.subprocess.PIPE,  # ends when we do, however that happens
                # More arenas than cores double the memory of calculations that threads do.
                env=child_environment({"MALLOC_ARENA_MAX": "2", **self._variables}),
                start_new_session=True,  # Ctrl-C is for us; we stop it
            )
            self.started.set()
            code = await self._process.wait()
            pause_s = RESTART_FIRST_S if loop.time() - began > STEADY_S else min(2 * pause_s, RESTART_MOST_S)
            telemetry.log.warning("worker.ended", exit_code=code, restart_in_s=pause_s)
            await asyncio.sleep(pause_s)

    async def stop(self) -> None:
        """SIGTERM; steps in progress get their time, then SIGKILL."""
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(20):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def until_stopped(until_eof: bool) -> None:
    """Return on SIGINT or SIGTERM and, where asked, when standard input ends."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if until_eof:
        threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True).start()
    await stop.wait()


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # Not through sys.stdin: a thread inside its lock would make the interpreter's end fatal.
    while os.read(0, 1024):
        pass
    with suppress(RuntimeError):  # the loop has ended by itself meanwhile
        loop.call_soon_threadsafe(stop.set)


def _announce(started: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(started) + "\n")
        sys.stdout.flush()
        return
    out = output.console()
    if "url" in started:
        out.print(f"Fairlead      [bold]{started['url']}[/]")
    if "sandbox_url" in started:
        out.print(f"local AWS     {started['sandbox_url']}")
    if "data_dir" in started:
        out.print(f"data          {started['data_dir']}")
    if password := started.get("password"):
        name = started["username"]
        where = "" if started["url"].endswith(":8700") else f" --url {started['url']}"
        out.print(f"administrator [bold]{name}[/]  password [bold]{password}[/]  (shown once)")
        out.print(f"\n  fairlead login --username {name}{where}")
    out.print("Ctrl-C stops everything.", style="dim")
