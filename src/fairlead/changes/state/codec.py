"""A state version as bytes and back. Pure; reading proves that every byte is as it was written.

One value has one spelling (keys sorted, no spaces, times in UTC), so comparing bytes compares versions.
"""

import gc
import hashlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from math import isfinite

import msgspec

from fairlead.changes.state.model import Skipped, Snapshot, StateInvalid, StateResource, StateUnsupported

SCHEMA_VERSION = "1.0.0"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    previous_sha256: str | None
    actor: str
    nonce: str
    timestamp: datetime
    run_id: str | None
    plan_digest: str | None
    resource_count: int
    resources_sha256: str  # of the bytes of `resources`
    envelope_sha256: str  # of the whole file with this field "" and `resources` []
    recovered_from: int | None = None
    skipped: tuple[Skipped, ...] = ()


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    last_modified_by: str
    change_description: str
    change_plan_id: str | None


class Document(msgspec.Struct, frozen=True, kw_only=True):
    fairlead: Header
    metadata: Metadata
    projectId: str  # noqa: N815 - the name in the file
    resources: msgspec.Raw
    timestamp: datetime
    version: str


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before the resources."""

    fairlead: Header
    metadata: Metadata
    projectId: str  # noqa: N815


class Damaged(Exception):
    """A version's bytes are not what was written; the text says how that shows."""


_encoder = msgspec.json.Encoder(order="sorted")
_document = msgspec.json.Decoder(Document)
_opening = msgspec.json.Decoder(Opening)
_resources = msgspec.json.Decoder(tuple[StateResource, ...])

_gc_lock = threading.Lock()
_gc_pauses = 0
_gc_resume = False


@contextmanager
def _gc_paused() -> Iterator[None]:
    """No cyclic collection inside: over a large decode it costs more than the decode itself."""
    global _gc_pauses, _gc_resume  # noqa: PLW0603 - the collector is one per process
    with _gc_lock:
        if not _gc_pauses:
            _gc_resume = gc.isenabled()
        _gc_pauses += 1
        gc.disable()
    try:
        yield
    finally:
        with _gc_lock:
            _gc_pauses -= 1
            if not _gc_pauses and _gc_resume:
                gc.enable()


def sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _file(header: Header, metadata: Metadata, project: str, resources: msgspec.Raw) -> bytes:
    """The bytes of a version; there is one spelling of each, so comparing bytes compares versions."""
    return _encoder.encode(
        Document(
            fairlead=header,
            metadata=metadata,
            projectId=project,
            resources=resources,
            timestamp=header.timestamp,
            version=SCHEMA_VERSION,
        )
    )


def _envelope_sha256(header: Header, metadata: Metadata, project: str) -> str:
    unsigned = msgspec.structs.replace(header, envelope_sha256="")
    return sha256(_file(unsigned, metadata, project, msgspec.Raw(b"[]")))


def _in_file_order(resources: Iterable[StateResource]) -> list[StateResource]:
    """By logical id. Raises StateInvalid where two stand for one logical id or for one thing."""
    ordered = sorted(resources, key=lambda each: (each.logical_id, each.id))
    seen: set[tuple[str, ...]] = set()
    for each in ordered:
        names: list[tuple[str, ...]] = [("name", *each.identity)]
        if each.id:
            names.append(("thing", each.type, each.id))
        if not seen.isdisjoint(names):
            raise StateInvalid(
                f"{each.logical_id} ({each.type} {each.id}) is there twice.",
                remedy="Mark the resource that was replaced as superseded.",
                logical_id=each.logical_id,
            )
        seen.update(names)
        if not (_is_json(each.properties) and _is_json(each.observed)):
            raise StateInvalid(
                f"{each.logical_id} ({each.type}) has values that are not JSON or not known yet.",
                logical_id=each.logical_id,
            )
    return ordered


def _is_json(value: object) -> bool:
    """Whether `value` would be read back as it is: the encoder writes NaN as null and takes any dataclass."""
    if isinstance(value, dict):
        return all(type(name) is str and _is_json(item) for name, item in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))


def encode(
    project: str,
    version: int,
    previous_sha256: str | None,
    snapshot: Snapshot,
    nonce: str,
    recovered_from: int | None = None,
    skipped: tuple[Skipped, ...] = (),
) -> tuple[Header, Metadata, bytes]:
    """The new version and its bytes. Raises StateInvalid for what JSON cannot hold."""
    if snapshot.timestamp.tzinfo is None:
        raise StateInvalid("The time of a state version needs a time zone.")
    resources = _in_file_order(snapshot.resources)
    metadata = Metadata(
        last_modified_by=snapshot.actor,
        change_description=snapshot.description,
        change_plan_id=snapshot.plan_id,
    )
    try:
        raw = _encoder.encode(resources)
        header = Header(
            version=version,
            previous_sha256=previous_sha256,
            actor=snapshot.actor,
            nonce=nonce,
            timestamp=snapshot.timestamp.astimezone(UTC),
            run_id=snapshot.run_id,
            plan_digest=snapshot.plan_digest,
            resource_count=len(resources),
            resources_sha256=sha256(raw),
            envelope_sha256="",
            recovered_from=recovered_from,
            skipped=skipped,
        )
        digest = _envelope_sha256(header, metadata, project)
        header = msgspec.structs.replace(header, envelope_sha256=digest)
        return header, metadata, _file(header, metadata, project, msgspec.Raw(raw))
    except (TypeError, OverflowError, ValueError) as error:
        raise StateInvalid(f"These resources cannot be written as JSON: {error}") from error


def _check_envelope(opening: Opening | Document, project: str, version: int) -> None:
    header = opening.fairlead
    if opening.projectId != project:
        raise Damaged(f"it belongs to project {opening.projectId!r}")
    if header.version != version:
        raise Damaged(f"it holds version {header.version}")
    if header.envelope_sha256 != _envelope_sha256(header, opening.metadata, project):
        raise Damaged("its header is not what was written")


def parse(data: bytes, project: str, version: int) -> Document:
    """The version in `data`, proven to be what was written. Raises Damaged, StateUnsupported."""
    if not data:
        raise Damaged("it is empty")
    try:
        document = _document.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Damaged(f"it is not a whole state file: {error}") from error
    if document.version != SCHEMA_VERSION:
        raise StateUnsupported(
            f"Version {version} of the state of project {project} has schema {document.version[:20]!r}; "
            f"this Fairlead reads {SCHEMA_VERSION}.",
            remedy="Run the Fairlead that wrote it, or a newer one.",
        )
    _check_envelope(document, project, version)
    if document.fairlead.resources_sha256 != sha256(memoryview(document.resources)):
        raise Damaged("its resources are not what was written")
    if _file(document.fairlead, document.metadata, project, document.resources) != data:
        raise Damaged("bytes were added to it or moved in it")
    return document


def parse_resources(document: Document) -> tuple[StateResource, ...]:
    try:
        with _gc_paused():
            return _resources.decode(document.resources)
    except msgspec.MsgspecError as error:
        raise Damaged(f"its resources have another form: {error}") from error


def parse_opening(data: bytes, project: str, version: int) -> Opening | None:
    """What stands before the resources in the first bytes of a version; None where they are too few."""
    # A quote inside a JSON string is escaped, so this can only be the key itself.
    end = data.find(b',"resources":[')
    if end < 0:
        return None
    try:
        opening = _opening.decode(data[:end] + b"}")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Damaged(f"it is not a whole state file: {error}") from error
    _check_envelope(opening, project, version)
    return opening
