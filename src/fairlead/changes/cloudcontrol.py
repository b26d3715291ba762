"""Resources of any type, through the gateway: create, read, update, delete, list, and wait.

Every verb may be repeated with the same client token: the request is made once. Types without
Cloud Control handlers go through one-resource CloudFormation stacks behind the same verbs
(`via=Via.CLOUDFORMATION`, identifier "stack-name|physical-id").
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from fairlead.changes.awsapi import answers, snapshots, stacks
from fairlead.changes.awsapi.commands import command, document
from fairlead.changes.mcp import Gateway
from fairlead.changes.model import Json, Properties, Via
from fairlead.kernel import resilience, telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import FairleadError

T = TypeVar("T")
Patch = Sequence[Mapping[str, Any]]  # JSON Patch (RFC 6902): {"op", "path", "value"}

_STACK_TOKEN = "cfn:"  # Cloud Control's own tokens hold no colon  # noqa: S105
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_LONGEST_HINT_S = 60.0
_SNAPSHOT_BEGINS_S = 600.0  # a backup or a change that is under way comes first
_HALF_ANSWERS = 3  # tries
_TOGETHER_S = 0.05  # polls due this close to each other go out in one batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one request has come, in Cloud Control's own words."""

    operation: str  # CREATE | UPDATE | DELETE
    status: str  # PENDING | IN_PROGRESS | SUCCESS | FAILED | CANCEL_IN_PROGRESS | CANCEL_COMPLETE
    type_name: str
    identifier: str | None
    request_token: str
    error_code: str | None = None
    message: str | None = None
    model: Properties | None = None
    retry_after: datetime | None = None  # AWS asks not to be asked again before

    @property
    def is_final(self) -> bool:
        return self.status in {"SUCCESS", "FAILED", "CANCEL_COMPLETE"}

    def error(self) -> FairleadError | None:
        """What went wrong, where the request has failed or was cancelled."""
        if self.status not in {"FAILED", "CANCEL_COMPLETE"}:
            return None
        message = self.message or "no reason given"
        return answers.error_of_code(self.error_code or self.status, f"{self.type_name}: {message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One resource that a listing found; `properties` may be only a part of them."""

    identifier: str
    properties: Properties


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose credentials these are."""

    account: str
    arn: str


class Resources:
    """The resource verbs on one gateway. Holds the poll that all waiting requests share."""

    def __init__(self, gateway: Gateway, region: str | None = None) -> None:
        """`region` None: the one that the servers were started with."""
        self._gateway = gateway
        self._region = region
        self._poll = _Poll(self._ask)
        self._by_region: dict[str, Resources] = {}

    def in_region(self, region: str) -> "Resources":
        """The same verbs in `region`; asked again, the same object, so that waits share its poll."""
        if region == self._region:
            return self
        return self._by_region.setdefault(region, Resources(self._gateway, region))

    async def exports(self) -> dict[str, str]:
        """Values that CloudFormation stacks of this account and region export, by name."""
        answer = await self._gateway.read(self._command("cloudformation", "list-exports"))
        return {item["Name"]: item["Value"] for item in answer.get("Exports", ())}

    async def zones(self) -> list[str]:
        """Availability zones of the region that this account may use, sorted."""
        answer = await self._gateway.read(self._command("ec2", "describe-availability-zones"))
        return sorted(zone["ZoneName"] for zone in answer.get("AvailabilityZones", ()))

    def _command(self, service: str, operation: str, **options: str | list[str] | None) -> str:
        return command(service, operation, region=self._region, **options)

    async def create(
        self, type_name: str, properties: Properties, *, client_token: str, via: Via = Via.CLOUD_CONTROL
    ) -> Progress:
        """Begin to make a resource. Raises DocumentTooLarge and the errors of `answers`."""
        if via is Via.CLOUDFORMATION:
            return await self._create_stack(type_name, properties, client_token)
        return await self._submit(
            self._command(
                "cloudcontrol",
                "create-resource",
                type_name=type_name,
                desired_state=document(properties),
                client_token=client_token,
            )
        )

    async def update(
        self,
        type_name: str,
        identifier: str,
        patch: Patch,
        *,
        client_token: str,
        via: Via = Via.CLOUD_CONTROL,
    ) -> Progress:
        """Begin to change a resource in place by a JSON Patch of its properties."""
        if via is Via.CLOUDFORMATION:
            return await self._update_stack(type_name, identifier, patch, client_token)
        return await self._submit(
            self._command(
                "cloudcontrol",
                "update-resource",
                type_name=type_name,
                identifier=identifier,
                patch_document=document(patch, what="The changes"),
                client_token=client_token,
            )
        )

    async def delete(
        self, type_name: str, identifier: str, *, client_token: str, via: Via = Via.CLOUD_CONTROL
    ) -> Progress:
        """Begin to remove a resource; one that is not there is a success."""
        if via is Via.CLOUDFORMATION:
            return await self._delete_stack(type_name, identifier, client_token)
        asked = self._command(
            "cloudcontrol",
            "delete-resource",
            type_name=type_name,
            identifier=identifier,
            client_token=client_token,
        )
        try:
            return await self._submit(asked)
        except answers.ResourceNotFound:
            return Progress(
                operation="DELETE",
                status="SUCCESS",
                type_name=type_name,
                identifier=identifier,
                request_token="",
            )

    async def status(self, request_tokens: Sequence[str]) -> dict[str, Progress]:
        """Progress of each request, asked in batches. Raises where AWS has none for one of them."""
        found = await self._ask(request_tokens)
        return {token: _unless_error(outcome) for token, outcome in found.items()}

    async def wait(self, progress: Progress, *, deadline_s: float) -> Progress:
        """The final progress of a request. All waits share one poll, so many cost little.

        Raises DeadlineExceeded, and RequestUnknown where AWS has forgotten the request; a request
        that failed is returned, not raised.
        """
        if progress.is_final:
            return progress
        final = await self._gateway.at_home(self._wait, progress, deadline_s)
        if final.status == "FAILED" and final.request_token.startswith(_STACK_TOKEN):
            return await self._after_failed_stack(final)
        return final

    async def read(
        self, type_name: str, identifier: str, *, via: Via = Via.CLOUD_CONTROL
    ) -> Properties | None:
        """Live properties of a resource; None where it is not there."""
        return (await self.read_many([(type_name, identifier)], via=via))[(type_name, identifier)]

    async def read_many(
        self, targets: Sequence[tuple[str, str]], *, via: Via = Via.CLOUD_CONTROL
    ) -> dict[tuple[str, str], Properties | None]:
        """Live properties by (type, identifier); None for what is not there. Raises the first other error."""
        targets = list(dict.fromkeys(targets))
        if via is Via.CLOUDFORMATION:
            return await self._read_stacks(targets)
        found = await self._gateway.read_many(
            [self._command("cloudcontrol", "get-resource", type_name=t, identifier=i) for t, i in targets]
        )
        return {key: _properties(outcome) for key, outcome in zip(targets, found, strict=True)}

    async def list(self, type_name: str, resource_model: Properties | None = None) -> list[Listed]:
        """All resources of a type; some types want `resource_model` to say of which parent."""
        model = None if resource_model is None else document(resource_model)
        listed: list[Listed] = []
        page: str | None = None
        while True:
            answer = await self._gateway.read(
                self._command(
                    "cloudcontrol",
                    "list-resources",
                    type_name=type_name,
                    resource_model=model,
                    starting_token=page,
                )
            )
            listed += [
                Listed(identifier=item["Identifier"], properties=json.loads(item.get("Properties") or "{}"))
                for item in answer.get("ResourceDescriptions", ())
            ]
            # The server follows AWS's pages itself; where it stops early it says how to go on.
            page = answer.get("pagination_token")
            if not page:
                return listed

    async def snapshot(
        self,
        type_name: str,
        identifier: str,
        *,
        client_token: str,
        deadline_s: float,
        via: Via = Via.CLOUD_CONTROL,
    ) -> str | None:
        """Take a snapshot, once per client token, and wait for its end; None where the resource is gone.

        Its identifier is returned. Only for `traits.SNAPSHOT_TYPES`. Raises HandlerFailed where the
        snapshot failed, DeadlineExceeded, and the errors of `answers`.
        """
        source = identifier.partition("|")[2] if via is Via.CLOUDFORMATION else identifier
        name = snapshots.snapshot_name(type_name, source, client_token)
        async with resilience.deadline(deadline_s, f"The snapshot of {source}"):
            taken = await self._snapshot(type_name, source, name)
        if taken is None and await self.read(type_name, identifier, via=via) is not None:
            raise answers.HandlerFailed(
                f"AWS finds nothing to take a snapshot of as {source}, and yet the resource stands.",
                remedy="Take the snapshot yourself.",
            )
        return taken

    async def caller_identity(self) -> Identity:
        """Whose credentials the gateway uses."""
        answer = await self._gateway.read(self._command("sts", "get-caller-identity"))
        return Identity(account=answer["Account"], arn=answer["Arn"])

    async def _submit(self, asked: str) -> Progress:
        # Its client token makes it safe: AWS answers a repeated request with the first one's progress.
        for _ in range(_HALF_ANSWERS):
            answer = await self._gateway.write(asked, safe_to_retry=True)
            # A connection that breaks behind the head of an answer looks like an empty success.
            if "ProgressEvent" in answer:
                return _progress(answer["ProgressEvent"])
        raise answers.NoAnswer("AWS answered without saying how far the request is.")

    async def _snapshot(self, type_name: str, source: str, name: str) -> str | None:
        clock = asyncio.get_running_loop().time
        patience, pause_s = clock() + _SNAPSHOT_BEGINS_S, _FIRST_PAUSE_S
        begun, refused = False, None
        while True:
            found = await self._look_for_snapshot(type_name, name, begun)
            if found.state is snapshots.State.READY:
                return found.identifier
            if found.state is snapshots.State.FAILED:
                raise answers.HandlerFailed(f"AWS: the snapshot {found.identifier} is '{found.status}'.")
            if found.state is snapshots.State.ABSENT:
                if clock() > patience:
                    raise refused or answers.HandlerFailed(f"AWS: the snapshot {name} did not come up.")
                if not begun:
                    refused = await self._take_snapshot(type_name, source, name)
                    if refused and snapshots.refusal(refused) is snapshots.Refusal.GONE:
                        return None
                    begun = snapshots.has_begun(type_name, refused)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.6, _LONGEST_PAUSE_S)

    async def _look_for_snapshot(self, type_name: str, name: str, begun: bool) -> snapshots.Found:
        try:
            answer = await self._gateway.read(snapshots.look(type_name, name, self._region))
        except FairleadError as error:
            if begun and resilience.may_repeat(error):
                # No answer says nothing about the snapshot: the caller's own deadline ends the wait.
                return snapshots.Found(state=snapshots.State.PENDING)
            return snapshots.found(type_name, error)
        return snapshots.found(type_name, answer)

    async def _take_snapshot(self, type_name: str, source: str, name: str) -> FairleadError | None:
        """Ask for it; why AWS has not begun it, where that may pass. Raises where it will not."""
        try:
            asked = snapshots.first(type_name, source, self._region)
            told = None if asked is None else await self._gateway.read(asked)
            await self._gateway.write(
                snapshots.take(type_name, source, name, self._region, told),
                safe_to_retry=snapshots.is_named(type_name),
            )
        except FairleadError as error:
            if snapshots.refusal(error) is snapshots.Refusal.REFUSED:
                raise
            return error
        return None

    async def _wait(self, progress: Progress, deadline_s: float) -> Progress:
        async with resilience.deadline(deadline_s, f"The {progress.operation} of {progress.type_name}"):
            return await self._poll.final(progress)

    async def _ask(self, tokens: Sequence[str]) -> dict[str, Progress | FairleadError]:
        asked = [
            self._describe(_stack_part(token, 3))
            if token.startswith(_STACK_TOKEN)
            else self._command("cloudcontrol", "get-resource-request-status", request_token=token)
            for token in tokens
        ]
        found = await self._gateway.read_many(asked)
        return {token: _status(token, outcome) for token, outcome in zip(tokens, found, strict=True)}

    async def _read_stacks(
        self, targets: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], Properties | None]:
        names = [_stack_of(identifier) for _, identifier in targets]
        asked = [ask(name) for name in names for ask in (self._describe, self._get_template)]
        found = iter(await self._gateway.read_many(asked))
        return {key: _stack_properties(next(found), next(found)) for key in targets}

    def _describe(self, name: str) -> str:
        return self._command("cloudformation", "describe-stacks", stack_name=name)

    def _get_template(self, name: str) -> str:
        return self._command("cloudformation", "get-template", stack_name=name)

    async def _create_stack(self, type_name: str, properties: Properties, token: str) -> Progress:
        name = stacks.stack_name(token)
        body = stacks.template(type_name, properties, token)
        try:
            await self._gateway.write(
                self._command(
                    "cloudformation",
                    "create-stack",
                    stack_name=name,
                    template_body=_stack_document(body),
                    client_request_token=token,
                    capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
                ),
                safe_to_retry=True,
            )
        except answers.AlreadyExists:
            # The name comes from the token: the stack is this request's own.
            telemetry.log.info("stack.found_again", stack=name)
        return _stack_progress("CREATE", type_name, name, "IN_PROGRESS")

    async def _update_stack(self, type_name: str, identifier: str, patch: Patch, token: str) -> Progress:
        name = _stack_of(identifier)
        body = stacks.template_of(await self._gateway.read(self._get_template(name)))
        progress = _stack_progress("UPDATE", type_name, name, "IN_PROGRESS", identifier=identifier)
        if stacks.token_of(body) == token:
            return progress  # an earlier try was accepted; patching twice would not be the same
        changed = stacks.template(type_name, stacks.patched(stacks.properties_of(body), patch), token)
        try:
            await self._gateway.write(
                self._command(
                    "cloudformation",
                    "update-stack",
                    stack_name=name,
                    template_body=_stack_document(changed),
                    client_request_token=token,
                    capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
                ),
                safe_to_retry=True,
            )
        except answers.InvalidRequest as error:
            if "No updates are to be performed" not in error.message:
                raise
            return replace(progress, status="SUCCESS")
        except answers.TokenConflict:
            telemetry.log.info("stack.found_again", stack=name)
        return progress

    async def _delete_stack(self, type_name: str, identifier: str, token: str) -> Progress:
        name = _stack_of(identifier)
        await self._gateway.write(
            self._command("cloudformation", "delete-stack", stack_name=name, client_request_token=token),
            safe_to_retry=True,
        )
        return _stack_progress("DELETE", type_name, name, "IN_PROGRESS", identifier=identifier)

    async def _after_failed_stack(self, progress: Progress) -> Progress:
        """`progress` with the reason that only the stack's events tell.

        What a failed creation leaves, an empty stack, is removed: nobody else knows of it.
        """
        name = _stack_part(progress.request_token, 3)
        try:
            events = await self._gateway.read(
                self._command("cloudformation", "describe-stack-events", stack_name=name)
            )
            if progress.operation == "CREATE":
                await self._delete_stack(progress.type_name, name, f"remove-{name}")
        except FairleadError as error:
            telemetry.log.warning("stack.left_behind", stack=name, error=error.code)
            return progress
        return replace(progress, message=stacks.failure_reason(events) or progress.message)


@dataclass(slots=True, eq=False)
class _Waiting:
    token: str
    final: asyncio.Future[Progress]
    due: float
    pause_s: float = _FIRST_PAUSE_S


class _Poll:
    """Asks for all waiting requests together, each at its own pace."""

    def __init__(
        self, ask: Callable[[Sequence[str]], Awaitable[Mapping[str, Progress | FairleadError]]]
    ) -> None:
        self._ask = ask
        self._waiting: list[_Waiting] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def final(self, progress: Progress) -> Progress:
        """The final progress of the request that `progress` is about."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(progress.request_token, loop.create_future(), loop.time())
        _postpone(waiting, progress.retry_after, loop.time())
        self._waiting.append(waiting)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            return await waiting.final
        finally:
            self._waiting.remove(waiting)
            self._changed.set()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while open_ := [waiting for waiting in self._waiting if not waiting.final.done()]:
            due = [waiting for waiting in open_ if waiting.due <= clock() + _TOGETHER_S]
            if due:
                await self._settle(due, clock)
                continue
            self._changed.clear()
            try:
                async with asyncio.timeout(min(waiting.due for waiting in open_) - clock()):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _settle(self, due: Sequence[_Waiting], clock: Callable[[], float]) -> None:
        try:
            found = await self._ask(list(dict.fromkeys(waiting.token for waiting in due)))
        except FairleadError as error:
            found = dict.fromkeys((waiting.token for waiting in due), error)
        except Exception as error:  # noqa: BLE001 - a bug: those who wait must hear it
            for waiting in due:
                _finish(waiting, error)
            return
        for waiting in due:
            outcome = found[waiting.token]
            if isinstance(outcome, Progress):
                over, hint = outcome.is_final, outcome.retry_after
            else:
                # No answer says nothing about the request: the caller's own deadline ends the wait.
                over, hint = not resilience.may_repeat(outcome), None
            if over:
                _finish(waiting, outcome)
            else:
                _postpone(waiting, hint, clock())


def _finish(waiting: _Waiting, outcome: Progress | Exception) -> None:
    if waiting.final.done():
        return
    if isinstance(outcome, Progress):
        waiting.final.set_result(outcome)
    else:
        waiting.final.set_exception(outcome)


def _postpone(waiting: _Waiting, retry_after: datetime | None, now: float) -> None:
    hint_s = (retry_after - utc_now()).total_seconds() if retry_after else 0.0
    waiting.due = now + max(waiting.pause_s, min(hint_s, _LONGEST_HINT_S))
    waiting.pause_s = min(waiting.pause_s * 1.6, _LONGEST_PAUSE_S)


def _unless_error(outcome: T | FairleadError) -> T:
    if isinstance(outcome, FairleadError):
        raise outcome
    return outcome


def _progress(event: Json) -> Progress:
    """Cloud Control's progress event; deleting what is not there counts as done."""
    code, operation, status = event.get("ErrorCode"), event["Operation"], event["OperationStatus"]
    gone = operation == "DELETE" and status == "FAILED" and code == "NotFound"
    model, retry_after = event.get("ResourceModel"), event.get("RetryAfter")
    return Progress(
        operation=operation,
        status="SUCCESS" if gone else status,
        type_name=event.get("TypeName", ""),
        identifier=event.get("Identifier"),
        request_token=event["RequestToken"],
        error_code=None if gone else code,
        message=event.get("StatusMessage"),
        model=json.loads(model) if model else None,
        retry_after=_moment(retry_after) if retry_after else None,
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _status(token: str, outcome: Json | FairleadError) -> Progress | FairleadError:
    if token.startswith(_STACK_TOKEN):
        return _stack_status(token, outcome)
    if isinstance(outcome, FairleadError):
        return outcome
    if "ProgressEvent" not in outcome:
        return answers.NoAnswer("AWS answered without saying how far the request is.")
    return _progress(outcome["ProgressEvent"])


def _properties(outcome: Json | FairleadError) -> Properties | None:
    if isinstance(outcome, answers.ResourceNotFound):
        return None
    if isinstance(outcome, FairleadError):
        raise outcome
    found: Properties = json.loads(outcome["ResourceDescription"]["Properties"])
    return found


def _stack_document(body: Json) -> str:
    return document(body, limit=stacks.MAX_TEMPLATE_CHARS, what="The properties, as a stack's template,")


def _stack_of(identifier: str) -> str:
    return identifier.partition("|")[0]


def _stack_part(token: str, index: int) -> str:
    """Part of a stack's request token "cfn:OPERATION:AWS/Service/Type:stack-name"."""
    return token.split(":")[index]


def _stack_progress(
    operation: str, type_name: str, name: str, status: str, *, identifier: str | None = None
) -> Progress:
    return Progress(
        operation=operation,
        status=status,
        type_name=type_name,
        identifier=identifier,
        request_token=f"{_STACK_TOKEN}{operation}:{type_name.replace('::', '/')}:{name}",
    )


def _is_missing_stack(outcome: Json | FairleadError) -> bool:
    return isinstance(outcome, answers.InvalidRequest) and "does not exist" in outcome.message


def _stack_status(token: str, outcome: Json | FairleadError) -> Progress | FairleadError:
    if isinstance(outcome, FairleadError) and not _is_missing_stack(outcome):
        return outcome
    stack = None if isinstance(outcome, FairleadError) else outcome["Stacks"][0]
    operation, type_name = _stack_part(token, 1), _stack_part(token, 2).replace("/", "::")
    name = _stack_part(token, 3)
    status = stacks.outcome(operation, stack and stack["StackStatus"])
    outputs = {o["OutputKey"]: o["OutputValue"] for o in (stack or {}).get("Outputs", ())}
    physical = outputs.get(stacks.OUTPUT)
    progress = _stack_progress(
        operation, type_name, name, status, identifier=f"{name}|{physical}" if physical else None
    )
    if status != "FAILED":
        return progress
    reason = (stack or {}).get("StackStatusReason") or "the stack was rolled back or removed"
    return replace(progress, error_code="GeneralServiceException", message=reason)


def _stack_properties(described: Json | FairleadError, template: Json | FairleadError) -> Properties | None:
    """What is knowable: the properties that the stack was last given, not what became of them."""
    if _is_missing_stack(described):
        return None
    stack, body = _unless_error(described), _unless_error(template)
    if not stacks.holds_resource(stack["Stacks"][0]["StackStatus"]):
        return None
    return stacks.properties_of(stacks.template_of(body))
