"""MiniStack with a working Cloud Control, state that survives, and faults: one process on one socket."""

import argparse
import asyncio
import json
import logging
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack import app as ministack_app
from ministack.core.responses import AccountRegionScopedDict
from ministack.services import cloudcontrol as ministack_cloudcontrol

from fairlead.sandbox.inside import assumed, effects, heads, instances, provision, stacks, trail, wire
from fairlead.sandbox.inside.cloudcontrol import CloudControl
from fairlead.sandbox.inside.faults import Faults
from fairlead.sandbox.inside.gate import Gate
from fairlead.sandbox.inside.registry import Registry
from fairlead.sandbox.inside.store import StateCorrupt, StateInUse, Store

EXIT_STATE_CORRUPT, EXIT_STATE_IN_USE = 4, 5  # process.py knows them too
_MEMORY = "fairlead"  # name under which what no service keeps is saved


def main(arguments: argparse.Namespace, fd: int) -> int:
    """Serve on the listening socket `fd` until told to stop; the exit code."""
    started = time.monotonic()
    heads.install()
    wire.install()
    instances.install()
    registry = Registry(Path(arguments.schemas))
    provision.install(registry)
    assumed.install()
    try:
        store = Store(Path(arguments.state))
        history = trail.Trail(Path(arguments.state).with_name("trail.db"))
        service, details = _open(store, registry, arguments.latency_ms / 1000)
    except StateCorrupt as error:
        print(  # noqa: T201 - the parent shows this line
            json.dumps({"state_corrupt": str(error)}), file=sys.stderr, flush=True
        )
        return EXIT_STATE_CORRUPT
    except StateInUse:
        return EXIT_STATE_IN_USE
    ministack_cloudcontrol.handle_request = service.handle
    ministack_cloudcontrol.get_state = lambda: None
    trail.install(history)
    details["start_s"] = round(time.monotonic() - started, 3)
    gate = Gate(ministack_app.app, service, service.faults, details)
    asyncio.run(_serve(gate, fd, until_eof=arguments.until_eof))
    store.close()
    history.close()
    return 0


def _open(store: Store, registry: Registry, latency_s: float) -> tuple[CloudControl, dict[str, Any]]:
    """The service with everything that was saved. Raises StateCorrupt."""
    memory: effects.Memory = AccountRegionScopedDict()
    saved = store.services()
    if isinstance(kept := saved.pop(_MEMORY, None), AccountRegionScopedDict):
        memory = kept
    modules = ministack_app._state_map
    for name, state in saved.items():
        try:
            ministack_app._get_module(modules[name]).load_persisted_state(state)
        except Exception as error:
            raise StateCorrupt(
                f"{store.path}: the saved state of {name} cannot be restored: {error}"
            ) from error
    unsaved: dict[str, str] = {}

    def commit(keys: frozenset[str] | None = None) -> None:
        states = {**ministack_app._build_persistence_save_dict(), _MEMORY: lambda: memory}
        if keys is not None:
            # The memory goes with effects; a mere request has none yet.
            states = {name: states[name] for name in (keys | {_MEMORY} if keys else keys) if name in states}
        requests = [*service.dirty.values()]
        unsaved.update(store.save(states, requests))
        service.dirty.clear()

    service = CloudControl(
        registry=registry,
        faults=Faults(),
        latency_s=latency_s,
        commit=commit,
        memory=memory,
    )
    service.restore(store.requests())
    stacks.install(memory)
    details: dict[str, Any] = {"interrupted_stacks": stacks.close_interrupted(), "unsaved": unsaved}
    return service, details


async def _serve(gate: Gate, fd: int, *, until_eof: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_eof:
        threading.Thread(target=_watch, args=(loop, stop), daemon=True).start()
    config = Config()
    config.bind = [f"fd://{fd}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.2
    config.shutdown_timeout = 5
    config.loglevel = "WARNING"
    logging.getLogger("hypercorn.access").disabled = True  # noqa: TID251
    await serve(gate, config, shutdown_trigger=stop.wait)


def _watch(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Standard input is a pipe from whoever started this process: it ends when they do."""
    while sys.stdin.buffer.read(1024):
        pass
    loop.call_soon_threadsafe(stop.set)
