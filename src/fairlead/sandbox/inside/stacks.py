"""CloudFormation stacks that can be relied on: idempotent by token, finished when answered, never stuck."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from ministack.services import cloudformation
from ministack.services.cloudformation import handlers

OPERATIONS = ("CreateStack", "UpdateStack", "DeleteStack")
_SETTLE_S = 5.0
_STEP_S = 0.005
_INTERRUPTED = "The sandbox was stopped while this operation was in progress"


def install(memory: MutableMapping[str, Any]) -> None:
    """Make the stack operations idempotent by ClientRequestToken. `memory` is kept."""
    for action in OPERATIONS:
        handlers._ACTION_HANDLERS[action] = _idempotent(action, handlers._ACTION_HANDLERS[action], memory)


def _idempotent(
    action: str, inner: Callable[[Any], Any], memory: MutableMapping[str, Any]
) -> Callable[[Any], Any]:
    def handle(params: Any) -> Any:
        token = (params.get("ClientRequestToken") or [""])[0]
        if not token:
            return inner(params)
        key = f"stack-token\x00{token}"
        body = json.dumps({name: params[name] for name in sorted(params)}, sort_keys=True)
        digest = hashlib.sha256((action + body).encode()).hexdigest()
        if seen := memory.get(key):
            if seen["digest"] != digest:
                message = f"A client request token {token} already exists"
                return handlers._error("TokenAlreadyExistsException", message)
            return seen["status"], dict(seen["headers"]), seen["body"].encode()
        status, headers, answer = inner(params)
        if status < 400:
            text = answer.decode() if isinstance(answer, bytes) else answer
            memory[key] = {"digest": digest, "status": status, "headers": dict(headers), "body": text}
        return status, headers, answer

    return handle


def _unsettled() -> list[dict[str, Any]]:
    return [
        stack
        for stack in cloudformation._stacks._data.values()
        if stack.get("StackStatus", "").endswith("IN_PROGRESS")
        and not stack["StackStatus"].startswith("REVIEW")
    ]


async def settle() -> None:
    """Wait, a few seconds at most, until no stack is changing: small stacks are finished when answered."""
    deadline = time.monotonic() + _SETTLE_S
    while _unsettled() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_STEP_S)  # MiniStack has no event for it


def close_interrupted() -> int:
    """Stacks whose operation died with the last process have failed; how many those are."""
    stacks = _unsettled()
    for stack in stacks:
        stack["StackStatus"] = stack["StackStatus"].removesuffix("_IN_PROGRESS") + "_FAILED"
        stack["StackStatusReason"] = _INTERRUPTED
    return len(stacks)
