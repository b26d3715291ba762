"""How one call of an apply is made safely.

Its client token is derived from the run and the node, its intent is written down before the call and
its result after, so a node that was cut off anywhere can simply be run again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fairlead.changes import store
from fairlead.changes.cloudcontrol import Progress, Resources
from fairlead.changes.intrinsics import evaluate
from fairlead.changes.model import Change, JournalEntry, NodeStatus, Properties, Recorded, Reference, Via
from fairlead.changes.nodes import Call, Node, client_token, patch
from fairlead.changes.registry import Registry
from fairlead.changes.secrets import Vault, revealed
from fairlead.changes.work import Results, Work, value_of, wants_snapshot
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.runs import RunContext

NODE_DEADLINE_S = 3600.0  # a database or a cluster takes many minutes
SNAPSHOT_DEADLINE_S = 4 * 3600.0  # the first one of a large volume takes hours
ATTEMPTS = 3
_PASSING = frozenset({"Throttling", "ServiceInternalError", "NetworkFailure", "ServiceTimeout"})


class SnapshotFailed(FairleadError):
    """The last snapshot of a resource was not taken, so the resource was not deleted."""

    code, status, retryable = "changes.snapshot_failed", 502, False


class Applier:
    """Makes the calls of one run."""

    def __init__(self, resources: Resources, vault: Vault, registry: Registry, ctx: RunContext) -> None:
        self._resources = resources
        self._vault = vault
        self._seal = vault.sealer(registry)
        self._registry = registry
        self._ctx = ctx

    async def run(self, work: Work, name: str, results: Results) -> dict[str, Any]:
        """Carry out one node; safe to repeat at any point. Raises what AWS refused with."""
        node = work.graph[name]
        shown = {"node": name, "logical_id": node.change.logical_id, "action": node.call.value}
        await self._ctx.event("node.started", shown, key=f"{name}:start")
        try:
            result = await self._carry_out(work, node, results)
        except FairleadError as error:
            await self._journal(
                node, NodeStatus.FAILED, error=error.problem(), identifier=error.details.get("identifier")
            )
            await self._ctx.event("node.failed", {**shown, "problem": error.problem()}, key=f"{name}:end")
            raise
        await self._journal(node, NodeStatus.SUCCEEDED, identifier=result["identifier"])
        await self._ctx.event(
            "node.succeeded", {**shown, "identifier": result["identifier"]}, key=f"{name}:end"
        )
        return result

    async def _carry_out(self, work: Work, node: Node, results: Results) -> dict[str, Any]:
        match node.call:
            case Call.FORGET:
                return {"identifier": work.recorded[node.change.logical_id].identifier}
            case Call.DELETE:
                return await self._delete(work, node)
            case Call.UPDATE:
                return await self._update(work, node, results)
            case Call.CREATE:
                return await self._create(work, node, results)

    async def _delete(self, work: Work, node: Node) -> dict[str, Any]:
        known = work.recorded[node.change.logical_id]
        if wants_snapshot(work, node.change):
            await self._snapshot(node, known)
        await self._attempts(
            node,
            lambda token: self._resources.delete(
                known.type, known.identifier, client_token=token, via=known.via
            ),
        )
        return {"identifier": known.identifier}

    async def _snapshot(self, node: Node, known: Recorded) -> None:
        """Take the last snapshot of what is about to be deleted; nothing where it is already gone."""
        token = client_token(self._ctx.run_id, f"snapshot of {node.name}")
        await self._journal(node, NodeStatus.INTENDED, token=token)
        try:
            taken = await self._resources.snapshot(
                known.type,
                known.identifier,
                client_token=token,
                deadline_s=SNAPSHOT_DEADLINE_S,
                via=known.via,
            )
        except FairleadError as error:
            raise SnapshotFailed(
                f"{known.logical_id} ({known.identifier}) was not deleted, because its last snapshot was not "
                f"taken: {error.message}",
                remedy=f"{error.remedy or 'Remove the reason.'} Then plan again; or first apply a template "
                "that sets the policy to Delete or Retain.",
                identifier=known.identifier,
                cause=error.code,
            ) from error
        if taken is not None:
            shown = {"node": node.name, "logical_id": known.logical_id, "identifier": known.identifier}
            await self._ctx.event("node.snapshot", {**shown, "snapshot": taken}, key=f"{node.name}:snapshot")

    async def _create(self, work: Work, node: Node, results: Results) -> dict[str, Any]:
        change = node.change
        wanted = self._wanted(work, change, results)
        final = await self._attempts(
            node,
            lambda token: self._resources.create(
                change.type, _sendable(wanted, change.via), client_token=token, via=change.via
            ),
        )
        return await self._made(work, change, wanted, str(final.identifier))

    async def _update(self, work: Work, node: Node, results: Results) -> dict[str, Any]:
        change = node.change
        known = work.recorded[change.logical_id]
        wanted = self._wanted(work, change, results)
        if operations := patch(change, _sendable(wanted, change.via)):
            await self._attempts(
                node,
                lambda token: self._resources.update(
                    change.type, known.identifier, operations, client_token=token, via=change.via
                ),
            )
        return await self._made(work, change, wanted, known.identifier)

    async def _made(self, work: Work, change: Change, wanted: Properties, identifier: str) -> dict[str, Any]:
        """The result of a node that made something, fit to be stored: secrets are digested."""
        sealed = self._seal(change.logical_id, change.type, wanted)
        if change.logical_id not in work.referred_to:
            # Nobody waits for its attributes: it is read with all others at the end, twenty in a call.
            return {"identifier": identifier, "properties": sealed, "observed": {}}
        observed = await self._resources.read(change.type, identifier, via=change.via)
        return {
            "identifier": identifier,
            "properties": sealed,
            "observed": self._vault.seal_like(change.logical_id, observed or {}, sealed),
        }

    async def _attempts(self, node: Node, begin: Callable[[str], Awaitable[Progress]]) -> Progress:
        """The successful end of a call; what fails for a passing reason is tried again under a new token.

        A repeated execution starts with the first token again and finds its own requests.
        """
        for attempt in range(1, ATTEMPTS + 1):
            token = client_token(self._ctx.run_id, node.name, attempt)
            await self._journal(node, NodeStatus.INTENDED, token=token)
            progress = await begin(token)
            await self._journal(node, NodeStatus.SUBMITTED, token=token, request=progress.request_token)
            final = await self._resources.wait(progress, deadline_s=NODE_DEADLINE_S)
            error = final.error()
            if error is None:
                return final
            if final.identifier:
                error.details.setdefault("identifier", final.identifier)
            if (
                attempt == ATTEMPTS
                or final.error_code not in _PASSING
                or (node.call is Call.CREATE and final.identifier)
            ):
                raise error
            await asyncio.sleep(2**attempt / 4)
        raise AssertionError("unreachable")

    def _wanted(self, work: Work, change: Change, results: Results) -> Properties:
        """The resource's properties now that everything that it refers to exists."""
        resource = work.desired[change.logical_id]
        if not resource.dynamic:
            return resource.properties

        def lookup(reference: Reference) -> Any:
            return value_of(work, self._registry, reference, results)

        return dict(evaluate(resource.properties, lookup))

    async def _journal(
        self,
        node: Node,
        status: NodeStatus,
        *,
        token: str | None = None,
        request: str | None = None,
        identifier: str | None = None,
        error: Any = None,
    ) -> None:
        """Write the call down: what is known of it so far, in a transaction of its own."""

        def write(conn: Any) -> None:
            old = store.journal_entry(conn, self._ctx.run_id, node.name)
            entry = JournalEntry(
                run_id=self._ctx.run_id,
                node=node.name,
                client_token=token or (old.client_token if old else ""),
                status=status,
                request_token=request or (old.request_token if old else None),
                identifier=identifier,
                error=error,
            )
            store.write_journal(conn, entry, now=utc_now())

        await self._ctx.shift.in_transaction(write)


def _sendable(wanted: Properties, via: Via) -> Properties:
    """The properties for AWS; a stack gets secrets still marked, since it takes them apart from the rest."""
    return wanted if via is Via.CLOUDFORMATION else revealed(wanted)
