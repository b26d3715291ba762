"""Resources of any type, through the gateway: create, read, update, delete, list, and wait.

Every verb may be repeated with the same client token: the request is made once. Types without
Cloud Control handlers go through one-resource CloudFormation stacks behind the same verbs
(`via=Via.CLOUDFORMATION`, identifier "stack-name|physical-id").
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from fairlead.changes import stacked
from fairlead.changes.awsapi import answers, snapshots
from fairlead.changes.awsapi.commands import command, document
from fairlead.changes.awsapi.stacks import Patch
from fairlead.changes.mcp import Gateway
from fairlead.changes.model import Json, Properties, Via
from fairlead.changes.progress import FIRST_PAUSE_S, LONGEST_PAUSE_S, Poll, Progress, progress_of
from fairlead.kernel import resilience
from fairlead.kernel.errors import FairleadError

__all__ = ["Identity", "Listed", "Patch", "Progress", "Resources"]

T = TypeVar("T")

_SNAPSHOT_BEGINS_S = 600.0  # a backup or a change that is under way comes first
_HALF_ANSWERS = 3  # tries


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
        self._stacks = stacked.Stacks(gateway, self._command)
        self._poll = Poll(self._ask)
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
            return await self._stacks.create(type_name, properties, client_token)
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
            return await self._stacks.update(type_name, identifier, patch, client_token)
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
            return await self._stacks.delete(type_name, identifier, client_token)
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
        if final.status == "FAILED" and stacked.is_stacks(final.request_token):
            return await self._stacks.after_failure(final)
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
            return await self._stacks.read(targets)
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
        source = stacked.physical_of(identifier) if via is Via.CLOUDFORMATION else identifier
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
                return progress_of(answer["ProgressEvent"])
        raise answers.NoAnswer("AWS answered without saying how far the request is.")

    async def _snapshot(self, type_name: str, source: str, name: str) -> str | None:
        clock = asyncio.get_running_loop().time
        patience, pause_s = clock() + _SNAPSHOT_BEGINS_S, FIRST_PAUSE_S
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
            pause_s = min(pause_s * 1.6, LONGEST_PAUSE_S)

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
            self._stacks.describe(token)
            if stacked.is_stacks(token)
            else self._command("cloudcontrol", "get-resource-request-status", request_token=token)
            for token in tokens
        ]
        found = await self._gateway.read_many(asked)
        return {token: _status(token, outcome) for token, outcome in zip(tokens, found, strict=True)}


def _unless_error(outcome: T | FairleadError) -> T:
    if isinstance(outcome, FairleadError):
        raise outcome
    return outcome


def _status(token: str, outcome: Json | FairleadError) -> Progress | FairleadError:
    if stacked.is_stacks(token):
        return stacked.status_of(token, outcome)
    if isinstance(outcome, FairleadError):
        return outcome
    if "ProgressEvent" not in outcome:
        return answers.NoAnswer("AWS answered without saying how far the request is.")
    return progress_of(outcome["ProgressEvent"])


def _properties(outcome: Json | FairleadError) -> Properties | None:
    if isinstance(outcome, answers.ResourceNotFound):
        return None
    if isinstance(outcome, FairleadError):
        raise outcome
    found: Properties = json.loads(outcome["ResourceDescription"]["Properties"])
    return found
