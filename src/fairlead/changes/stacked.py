"""Resources in CloudFormation stacks of their own: the verbs for types without Cloud Control handlers.

An identifier is "stack-name|physical-id". Every verb may be repeated with the same client token.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from fairlead.changes.awsapi import answers, stacks
from fairlead.changes.awsapi.commands import document
from fairlead.changes.mcp import Gateway
from fairlead.changes.model import Json, Properties
from fairlead.changes.progress import Progress
from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError

_TOKEN = "cfn:"  # Cloud Control's own tokens hold no colon  # noqa: S105
_CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"]


class Stacks:
    """The stack verbs on one gateway; `command` writes a command line for the region in question."""

    def __init__(self, gateway: Gateway, command: Callable[..., str]) -> None:
        self._gateway = gateway
        self._command = command

    def describe(self, request_token: str) -> str:
        """The command that tells how far the request is; its answer is for `status_of`."""
        return self._describe(_part(request_token, 3))

    async def create(self, type_name: str, properties: Properties, token: str) -> Progress:
        """Begin to make a stack with this one resource. Raises DocumentTooLarge."""
        name = stacks.stack_name(token)
        try:
            await self._submit("create-stack", name, stacks.template(type_name, properties, token), token)
        except answers.AlreadyExists:
            # The name comes from the token: the stack is this request's own.
            telemetry.log.info("stack.found_again", stack=name)
        return _progress("CREATE", type_name, name, "IN_PROGRESS")

    async def update(self, type_name: str, identifier: str, patch: stacks.Patch, token: str) -> Progress:
        """Begin to change the resource in place by a JSON Patch of its properties."""
        name = stack_of(identifier)
        body = stacks.template_of(await self._gateway.read(self._get_template(name)))
        progress = _progress("UPDATE", type_name, name, "IN_PROGRESS", identifier=identifier)
        if stacks.token_of(body) == token:
            return progress  # an earlier try was accepted; patching twice would not be the same
        changed = stacks.template(type_name, stacks.patched(stacks.properties_of(body), patch), token)
        try:
            await self._submit("update-stack", name, changed, token)
        except answers.InvalidRequest as error:
            if "No updates are to be performed" not in error.message:
                raise
            return replace(progress, status="SUCCESS")
        except answers.TokenConflict:
            telemetry.log.info("stack.found_again", stack=name)
        return progress

    async def _submit(self, operation: str, name: str, given: stacks.Template, token: str) -> None:
        body = document(
            given.body, limit=stacks.MAX_TEMPLATE_CHARS, what="The properties, as a stack's template,"
        )
        asked = self._command(
            "cloudformation",
            operation,
            stack_name=name,
            template_body=body,
            parameters=document(given.parameters) if given.parameters else None,
            client_request_token=token,
            capabilities=_CAPABILITIES,
        )
        await self._gateway.write(asked, safe_to_retry=True)

    async def delete(self, type_name: str, identifier: str, token: str) -> Progress:
        """Begin to remove the stack and the resource in it."""
        name = stack_of(identifier)
        await self._gateway.write(
            self._command("cloudformation", "delete-stack", stack_name=name, client_request_token=token),
            safe_to_retry=True,
        )
        return _progress("DELETE", type_name, name, "IN_PROGRESS", identifier=identifier)

    async def read(self, targets: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Properties | None]:
        """What is knowable by (type, identifier): the properties that each stack was last given."""
        names = [stack_of(identifier) for _, identifier in targets]
        asked = [ask(name) for name in names for ask in (self._describe, self._get_template)]
        found = iter(await self._gateway.read_many(asked))
        return {key: _properties(next(found), next(found)) for key in targets}

    async def after_failure(self, progress: Progress) -> Progress:
        """`progress` with the reason that only the stack's events tell.

        What a failed creation leaves, an empty stack, is removed: nobody else knows of it.
        """
        name = _part(progress.request_token, 3)
        try:
            events = await self._gateway.read(
                self._command("cloudformation", "describe-stack-events", stack_name=name)
            )
            if progress.operation == "CREATE":
                await self.delete(progress.type_name, name, f"remove-{name}")
        except FairleadError as error:
            telemetry.log.warning("stack.left_behind", stack=name, error=error.code)
            return progress
        return replace(progress, message=stacks.failure_reason(events) or progress.message)

    def _describe(self, name: str) -> str:
        return self._command("cloudformation", "describe-stacks", stack_name=name)

    def _get_template(self, name: str) -> str:
        return self._command("cloudformation", "get-template", stack_name=name)


def is_stacks(request_token: str) -> bool:
    """Whether the request is one of these, not Cloud Control's."""
    return request_token.startswith(_TOKEN)


def stack_of(identifier: str) -> str:
    """The stack's name."""
    return identifier.partition("|")[0]


def physical_of(identifier: str) -> str:
    """What AWS calls the resource inside the stack."""
    return identifier.partition("|")[2]


def status_of(request_token: str, outcome: Json | FairleadError) -> Progress | FairleadError:
    """How far the request is, by what `describe` was answered."""
    if isinstance(outcome, FairleadError) and not _is_missing(outcome):
        return outcome
    stack = None if isinstance(outcome, FairleadError) else outcome["Stacks"][0]
    operation, type_name = _part(request_token, 1), _part(request_token, 2).replace("/", "::")
    name = _part(request_token, 3)
    status = stacks.outcome(operation, stack and stack["StackStatus"])
    outputs = {o["OutputKey"]: o["OutputValue"] for o in (stack or {}).get("Outputs", ())}
    physical = outputs.get(stacks.OUTPUT)
    progress = _progress(
        operation, type_name, name, status, identifier=f"{name}|{physical}" if physical else None
    )
    if status != "FAILED":
        return progress
    reason = (stack or {}).get("StackStatusReason") or "the stack was rolled back or removed"
    return replace(progress, error_code="GeneralServiceException", message=reason)


def _part(token: str, index: int) -> str:
    """Part of a request token "cfn:OPERATION:AWS/Service/Type:stack-name"."""
    return token.split(":")[index]


def _progress(
    operation: str, type_name: str, name: str, status: str, *, identifier: str | None = None
) -> Progress:
    return Progress(
        operation=operation,
        status=status,
        type_name=type_name,
        identifier=identifier,
        request_token=f"{_TOKEN}{operation}:{type_name.replace('::', '/')}:{name}",
    )


def _is_missing(outcome: Json | FairleadError) -> bool:
    return isinstance(outcome, answers.InvalidRequest) and "does not exist" in outcome.message


def _properties(described: Json | FairleadError, template: Json | FairleadError) -> Properties | None:
    if _is_missing(described):
        return None
    if isinstance(described, FairleadError):
        raise described
    if isinstance(template, FairleadError):
        raise template
    if not stacks.holds_resource(described["Stacks"][0]["StackStatus"]):
        return None
    return stacks.shown_of(stacks.template_of(template))
