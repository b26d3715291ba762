"""The log itself: commit, read, history, verify and recover on an object store.

A version is one object, `projects/{project}/state/v0000012.json`, put create-only: that put *is* the
compare-and-swap, so of many writers on one base exactly one wins and history is never rewritten.
"""

import asyncio
import random
import re
from dataclasses import replace
from datetime import datetime

import msgspec

from fairlead.changes.state.codec import (
    Damaged,
    Document,
    Opening,
    encode,
    parse,
    parse_opening,
    parse_resources,
    sha256,
)
from fairlead.changes.state.model import (
    HistoryEntry,
    Skipped,
    Snapshot,
    State,
    StateBusy,
    StateCorrupted,
    StateFault,
    StateInvalid,
    StateMoved,
    StateResource,
    StateUnrecoverable,
    StateVersion,
    StateVersionMissing,
    Verification,
)
from fairlead.changes.state.sealing import Sealing, seal_paths
from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.objects import ObjectExists, ObjectMissing, ObjectStore

HEADER_BYTES = 16 * 1024  # enough for the header and the metadata, which sort before the resources
HINT_EVERY = 64  # versions between two writes of the hint
COMMIT_ATTEMPTS = 7
HISTORY_MAX = 200
_NEWEST_POSSIBLE = 9_999_999  # seven digits
_PARALLEL_READS = 16
_KEY = re.compile(r"v(\d{7})\.json")
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class StateLog:
    """The state versions of one project. Holds no lock and no truth: any number may work at once."""

    def __init__(
        self,
        objects: ObjectStore,
        project: str,
        *,
        prefix: str | None = None,
        sealing: Sealing | None = None,
    ) -> None:
        """`prefix`: a path above the project's folder; `sealing`: which values are stored as digests."""
        if not _PROJECT.fullmatch(project):
            raise StateInvalid(f"{project[:100]!r} cannot name a project's state.")
        self.project = project
        self._objects = objects
        self._sealing = sealing
        self._folder = f"{prefix}/projects/{project}/state" if prefix else f"projects/{project}/state"
        self._seen = 0  # where to begin listing; a hint, like the object HEAD
        self._digest: tuple[int, str] | None = None  # of the version last read or written here

    def address(self, version: int) -> str:
        """Where the version is, for people."""
        return self._objects.address(self._key(version))

    async def latest(self) -> int:
        """Number of the newest version, 0 where there is none; it may be damaged."""
        hint = self._seen or await self._read_hint()
        sizes = await self._sizes(max(hint, 1))
        if hint > 1 and hint not in sizes:  # the hint was wrong
            sizes = await self._sizes(1)
        self._seen = max(sizes, default=0)
        return self._seen

    async def head(self) -> StateVersion | None:
        """The newest version without its resources. Raises StateCorrupted, StateUnsupported."""
        newest = await self.latest()
        return (await self._load(newest))[0] if newest else None

    async def current(self) -> State | None:
        """The newest version. Raises StateCorrupted, StateUnsupported."""
        newest = await self.latest()
        return await self.read(newest) if newest else None

    async def read(self, version: int) -> State:
        """That version. Raises StateVersionMissing, StateCorrupted, StateUnsupported."""
        about, document = await self._load(version)
        try:
            return State(about, await asyncio.to_thread(parse_resources, document))
        except Damaged as error:
            raise self._corrupted(version, str(error)) from error

    async def commit(self, base_version: int, snapshot: Snapshot, nonce: str) -> StateVersion:
        """Write version `base_version + 1`, unless another was written since `base_version` (0: none).

        `nonce` names this very write: repeating it after a lost answer or a crash returns the version
        that the first attempt wrote. Raises StateMoved, StateBusy, StateCorrupted (the base or its
        successor), StateInvalid, and what the object store raises.
        """
        version = base_version + 1
        newest = await self.latest()
        if newest > base_version:
            return await self._own(version, nonce)
        if newest < base_version:
            raise self._moved(base_version, newest)
        previous = await self._sha256_of(base_version)
        sealed = replace(snapshot, resources=[self._sealed(each) for each in snapshot.resources])
        return await self._append(version, previous, sealed, nonce)

    async def history(self, limit: int = 20, before: int | None = None) -> list[HistoryEntry]:
        """Up to `limit` (at most 200) versions older than `before`, newest first; only headers are read."""
        newest = min(await self.latest(), before - 1 if before is not None else _NEWEST_POSSIBLE)
        oldest = max(1, newest - min(max(limit, 1), HISTORY_MAX) + 1)
        sizes = await self._sizes(oldest)
        versions = [version for version in range(newest, oldest - 1, -1) if version in sizes]
        gate = asyncio.Semaphore(_PARALLEL_READS)

        async def entry(version: int) -> HistoryEntry:
            async with gate:
                return await self._entry(version, sizes[version], whole=version == max(sizes))

        # The digest of a version stands in its successor; the newest has none and is read whole.
        wanted = [newest + 1, *versions] if newest + 1 in sizes else versions
        entries = await asyncio.gather(*(entry(version) for version in wanted))
        digests = {each.version - 1: each.about.previous_sha256 for each in entries if each.about}
        return [_with_digest(each, digests) for each in entries if each.version <= newest]

    async def verify(self, at_least: int = 0) -> Verification:
        """Walk the chain from version 1 and name every fault.

        The chain alone cannot show that its newest versions were deleted: `at_least` is the newest
        version that the caller knows to have been written.
        """
        sizes = await self._sizes(1)
        head = max(sizes, default=0)
        faults: list[StateFault] = []
        passed_over: set[int] = set()
        last: StateVersion | None = None
        for version in range(1, max(head, at_least) + 1):
            try:
                about, _ = await self._load(version)
            except (StateCorrupted, StateVersionMissing) as error:
                code = "corrupted" if version in sizes else "missing"
                faults.append(self._fault(version, code, _problem(error)))
                last = None
                continue
            if (last and last.sha256 != about.previous_sha256) or (version == 1 and about.previous_sha256):
                problem = f"it was written on another version {version - 1} than the one that is there"
                faults.append(self._fault(version, "chain_broken", problem))
            passed_over |= {each.version for each in about.skipped}
            last = about
        return Verification(
            head=head,
            head_sha256=last.sha256 if last else None,
            faults=tuple(replace(each, recovered=each.version in passed_over) for each in faults),
        )

    async def recover(self, actor: str, *, timestamp: datetime, nonce: str) -> StateVersion | None:
        """Where the newest version is damaged, write the last good one again as a new version.

        The new version names what it passed over; nothing is rewritten. Returns the newest version
        unchanged where it is good, None where there is none. Raises StateUnrecoverable, StateMoved.
        """
        newest = await self.latest()
        if not newest:
            return None
        good, skipped = await self._last_good(newest)
        if not skipped:
            return good.about
        content = Snapshot(
            resources=good.resources,
            actor=actor,
            description=f"Recovered from version {good.about.version}",
            timestamp=timestamp,
            plan_digest=good.about.plan_digest,
        )
        about = await self._append(
            newest + 1,
            skipped[0].sha256,
            content,
            nonce,
            recovered_from=good.about.version,
            skipped=tuple(skipped),
        )
        telemetry.log.warning(
            "state.recovered", project=self.project, version=about.version, skipped=len(skipped)
        )
        return about

    async def _last_good(self, newest: int) -> tuple[State, list[Skipped]]:
        """The newest intact version up to `newest`, and the damaged ones after it, newest first."""
        skipped: list[Skipped] = []
        for version in range(newest, 0, -1):
            try:
                return await self.read(version), skipped
            except (StateCorrupted, StateVersionMissing) as error:
                found = await self._raw_sha256(version)
                skipped.append(Skipped(version=version, problem=_problem(error), sha256=found))
        raise StateUnrecoverable(
            f"None of the {newest} versions of the state of project {self.project} is intact.",
            remedy="Put the objects back from a backup of the store, or import the resources again.",
            folder=self._objects.address(self._folder),
        )

    async def snapshot_of(self, version: int, *, actor: str, timestamp: datetime) -> Snapshot:
        """That version's resources as the content of a new one, for rolling back; sealed values stay so."""
        state = await self.read(version)
        return Snapshot(
            resources=state.resources,
            actor=actor,
            description=f"Rolled back to version {version}",
            timestamp=timestamp,
            plan_digest=state.about.plan_digest,
        )

    def _key(self, version: int) -> str:
        return f"{self._folder}/v{version:07d}.json"

    async def _sizes(self, first: int) -> dict[int, int]:
        """Bytes of each version from `first` on."""
        listed = await self._objects.list(self._folder, start_after=self._key(first - 1))
        return {
            int(found[1]): info.size_bytes
            for info in listed
            if (found := _KEY.fullmatch(info.key.rsplit("/", 1)[-1]))
        }

    async def _read_hint(self) -> int:
        try:
            text = await self._objects.get(f"{self._folder}/HEAD")
        except ObjectMissing:
            return 0
        return int(text) if re.fullmatch(rb"\d{1,7}", text) else 0

    async def _write_hint(self, version: int) -> None:
        if version % HINT_EVERY:
            return
        try:
            await self._objects.put(f"{self._folder}/HEAD", str(version).encode())
        except FairleadError as error:  # the version is written: a missing hint only costs time
            telemetry.log.warning("state.hint_failed", project=self.project, code=error.code)

    async def _load(self, version: int) -> tuple[StateVersion, Document]:
        try:
            data = await self._objects.get(self._key(version))
        except ObjectMissing as error:
            if 0 < version < await self.latest():
                raise self._corrupted(version, "it is missing although later versions exist") from error
            raise StateVersionMissing(
                f"Project {self.project} has no state version {version}.",
                remedy="List the versions that exist with the project's state history.",
                version=version,
            ) from error
        try:
            document = await asyncio.to_thread(parse, data, self.project, version)
        except Damaged as error:
            raise self._corrupted(version, str(error)) from error
        digest = await asyncio.to_thread(sha256, data)
        self._digest = version, digest
        return self._about(document, digest, len(data)), document

    async def _entry(self, version: int, size_bytes: int, *, whole: bool) -> HistoryEntry:
        entry = HistoryEntry(
            version=version, address=self.address(version), size_bytes=size_bytes, about=None
        )
        try:
            start = b""
            if size_bytes and not whole:
                start = await self._objects.get(self._key(version), first_bytes=HEADER_BYTES)
            opening = parse_opening(start, self.project, version)
            about = self._about(opening, None, size_bytes) if opening else (await self._load(version))[0]
        except Damaged as error:
            return replace(entry, problem=str(error))
        except (StateCorrupted, StateVersionMissing) as error:
            return replace(entry, problem=_problem(error))
        return replace(entry, about=about)

    def _about(self, opening: Opening | Document, sha256: str | None, size_bytes: int) -> StateVersion:
        header = opening.fairlead
        return StateVersion(
            project=self.project,
            version=header.version,
            sha256=sha256,
            previous_sha256=header.previous_sha256,
            actor=header.actor,
            description=opening.metadata.change_description,
            timestamp=header.timestamp,
            nonce=header.nonce,
            run_id=header.run_id,
            plan_id=opening.metadata.change_plan_id,
            plan_digest=header.plan_digest,
            resource_count=header.resource_count,
            size_bytes=size_bytes,
            address=self.address(header.version),
            recovered_from=header.recovered_from,
            skipped=header.skipped,
        )

    async def _sha256_of(self, version: int) -> str | None:
        if not version:
            return None
        if self._digest and self._digest[0] == version:
            return self._digest[1]
        return (await self._load(version))[0].sha256

    async def _raw_sha256(self, version: int) -> str | None:
        try:
            return sha256(await self._objects.get(self._key(version)))
        except ObjectMissing:
            return None

    async def _own(self, version: int, nonce: str) -> StateVersion:
        """`version` if this very write made it. Raises StateMoved if another did."""
        found, _ = await self._load(version)
        if found.nonce != nonce:
            raise self._moved(version - 1, max(self._seen, version), found)
        return found

    async def _append(
        self,
        version: int,
        previous_sha256: str | None,
        snapshot: Snapshot,
        nonce: str,
        recovered_from: int | None = None,
        skipped: tuple[Skipped, ...] = (),
    ) -> StateVersion:
        header, metadata, data = await asyncio.to_thread(
            encode, self.project, version, previous_sha256, snapshot, nonce, recovered_from, skipped
        )
        for attempt in range(COMMIT_ATTEMPTS):
            try:
                await self._objects.put_new(self._key(version), data)
            except ObjectExists:
                try:
                    return await self._own(version, nonce)
                except StateVersionMissing:
                    # S3 answers 409 while another's put is under way; that one may yet fail.
                    await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - jitter
                    continue
            digest = await asyncio.to_thread(sha256, data)
            self._seen, self._digest = version, (version, digest)
            await self._write_hint(version)
            telemetry.log.info("state.committed", project=self.project, version=version, size_bytes=len(data))
            opening = Opening(fairlead=header, metadata=metadata, projectId=self.project)
            return self._about(opening, digest, len(data))
        raise StateBusy(
            f"Version {version} of the state of project {self.project} was not written: others write too.",
            remedy="Try again.",
            version=version,
        )

    def _sealed(self, resource: StateResource) -> StateResource:
        if self._sealing is None:
            return resource
        paths = tuple(self._sealing.paths(resource))
        if not paths:
            return resource
        key, context = self._sealing.key, resource.logical_id
        return msgspec.structs.replace(
            resource,
            properties=seal_paths(resource.properties, paths, key, context),
            observed=seal_paths(resource.observed, paths, key, context),
        )

    def _fault(self, version: int, code: str, problem: str) -> StateFault:
        return StateFault(version=version, address=self.address(version), code=code, problem=problem)

    def _corrupted(self, version: int, problem: str) -> StateCorrupted:
        telemetry.count("fairlead_state_corrupted_total")
        return StateCorrupted(
            f"Version {version} of the state of project {self.project} is damaged: {problem} "
            f"({self.address(version)}).",
            remedy="Recover the state from its last good version, or put the object back from a backup.",
            project=self.project,
            version=version,
            address=self.address(version),
            problem=problem,
        )

    def _moved(self, base: int, newest: int, by: StateVersion | None = None) -> StateMoved:
        telemetry.count("fairlead_state_conflicts_total")
        who = f": {by.actor} wrote version {by.version} ({by.description})" if by else ""
        return StateMoved(
            f"The state of project {self.project} is at version {newest}, not {base}{who}.",
            remedy="Plan again on the newest version.",
            project=self.project,
            base_version=base,
            newest_version=newest,
        )


def _problem(error: FairleadError) -> str:
    return str(error.details.get("problem", "it is missing"))


def _with_digest(entry: HistoryEntry, digests: dict[int, str | None]) -> HistoryEntry:
    if entry.about is None or entry.about.sha256:
        return entry
    return replace(entry, about=replace(entry.about, sha256=digests.get(entry.version)))
