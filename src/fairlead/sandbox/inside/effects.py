"""What a request does to the resources: synchronous, so that nothing can come between it and its record."""

import hashlib
import logging
import traceback
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from fairlead.sandbox.inside import jsonpatch, provision, references, registry
from fairlead.sandbox.inside.live import KINDS
from fairlead.sandbox.inside.live.kind import Kind
from fairlead.sandbox.inside.registry import Facts

_log = logging.getLogger("fairlead.sandbox")  # noqa: TID251 - no telemetry in this environment
Model = dict[str, Any]
# (type, identifier) → what no service keeps: logical id, remembered and hidden properties
Memory = MutableMapping[str, Any]
STACK = "cc"  # generated names read cc-<logical id>-<hash>
_TAKEN = (
    "alreadyexists",
    "already exists",
    "alreadyowned",
    "duplicate",
    "already in use",
    "alreadyassociated",
)
_HELD = ("dependencyviolation", "bucketnotempty", "operationnotpermitted", "deleteconflict")


class Failure(Exception):
    """A request that ends FAILED, with the handler's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Found:
    """A thing that exists: what the caller sees of it, and everything that is known."""

    identifier: str
    key: str
    visible: Model
    full: Model
    logical_id: str


def identifier_of(facts: Facts, model: Model) -> str:
    """The primary identifier of a live model."""
    return "|".join(str(model[name]) for name in facts.identifier)


def read(facts: Facts, identifier: str, memory: Memory) -> Found | None:
    """The thing as it is now; None when it does not exist."""
    kind = KINDS[facts.type_name]
    model = kind.read(kind.key_of(identifier))
    if model is None:
        memory.pop(f"{facts.type_name}\x00{identifier}", None)  # gone by other hands
        return None
    return complete(facts, model, memory)


def complete(facts: Facts, model: Model, memory: Memory) -> Found:
    """`model`, read from its service, with what is remembered of it."""
    identifier = identifier_of(facts, model)
    note = memory.get(f"{facts.type_name}\x00{identifier}") or {}
    visible = registry.strip({**(note.get("kept") or {}), **model}, facts.write_only)
    full = {**(note.get("hidden") or {}), **(note.get("kept") or {}), **model}
    kind = KINDS[facts.type_name]
    key = kind.key_of(identifier)
    return Found(identifier, key, visible, full, note.get("logical", key))


def create(facts: Facts, desired: Model, token: str, memory: Memory) -> Found:
    """Create it. Names that nobody gave are derived from the request's token. Raises Failure."""
    _valid(registry.model_faults(facts, desired))
    if read_only := registry.read_only_set(facts, desired):
        raise Failure(
            "InvalidRequest", f"Encountered unsupported properties in request: {read_only} are read-only"
        )
    kind = KINDS[facts.type_name]
    if (taken := _taken(facts, kind, desired)) is not None:
        message = f"Resource of type '{facts.type_name}' with identifier '{taken}' already exists."
        raise Failure("AlreadyExists", message)
    logical_id = "r" + hashlib.sha256(token.encode()).hexdigest()[:9]
    physical_id = _called(provision.create, facts.type_name, logical_id, desired, STACK)
    model = kind.read(kind.key_after(physical_id, desired))
    if model is None:
        raise Failure("InternalFailure", f"{facts.type_name} {physical_id} is not there after its creation")
    return _remembered(facts, model, desired, logical_id, memory)


def _taken(facts: Facts, kind: Kind, desired: Model) -> str | None:
    """Identifier of what already has the identifier or the name that `desired` asks for."""
    if all(name in desired for name in facts.identifier):
        wanted = identifier_of(facts, desired)
        return wanted if kind.read(kind.key_of(wanted)) is not None else None
    if kind.unique and all(name in desired for name in kind.unique):
        for model in filter(None, map(kind.read, list(kind.keys()))):
            if all(model.get(name) == desired[name] for name in kind.unique):
                return identifier_of(facts, model)
    return None


def update(facts: Facts, identifier: str, patch: Any, memory: Memory) -> Found:
    """Apply `patch` to the thing as it is now. Raises Failure."""
    found = read(facts, identifier, memory)
    if found is None:
        raise Failure(
            "NotFound", f"Resource of type '{facts.type_name}' with identifier '{identifier}' was not found."
        )
    try:
        wanted = jsonpatch.apply_patch(found.visible, patch)
    except jsonpatch.PatchInvalid as error:
        raise Failure("InvalidRequest", str(error)) from error
    if not isinstance(wanted, dict):
        raise Failure("InvalidRequest", "A resource model is an object")
    if refusal := registry.forbidden_changes(facts, found.visible, wanted):
        raise Failure("NotUpdatable", refusal)
    _valid(_faults_of_change(facts, found.visible, wanted))
    after = {name: value for name, value in found.full.items() if name not in found.visible} | wanted
    kind = KINDS[facts.type_name]
    physical_id = kind.physical_of(found.key)
    result = _called(
        provision.update, facts.type_name, physical_id, found.logical_id, found.full, after, STACK
    )
    model = kind.read(found.key)
    if result != physical_id or model is None:
        raise Failure("InternalFailure", f"{facts.type_name} {physical_id} was replaced by {result}")
    return _remembered(facts, model, after, found.logical_id, memory)


def delete(facts: Facts, identifier: str, memory: Memory) -> None:
    """Delete it. Raises Failure."""
    found = read(facts, identifier, memory)
    if found is None:
        raise Failure(
            "NotFound", f"Resource of type '{facts.type_name}' with identifier '{identifier}' was not found."
        )
    kind = KINDS[facts.type_name]
    _called(provision.delete, facts.type_name, kind.physical_of(found.key), found.full, found.logical_id)
    if kind.read(found.key) is not None:
        raise Failure("NotStabilized", f"{facts.type_name} {identifier} is still there after its deletion")
    memory.pop(f"{facts.type_name}\x00{found.identifier}", None)


def _faults_of_change(facts: Facts, before: Model, after: Model) -> list[str]:
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    required = [name for name in facts.schema.get("required") or () if name in before and name not in after]
    faults = [
        fault for fault in registry.model_faults(facts, changed) if not fault.startswith("#: required key")
    ]
    return faults + [f"#: required key [{name}] not found" for name in required]


def _valid(faults: list[str]) -> None:
    if faults:
        raise Failure("InvalidRequest", f"Model validation failed ({'; '.join(faults)})")


def _remembered(facts: Facts, model: Model, asked: Model, logical_id: str, memory: Memory) -> Found:
    given_back = registry.strip(asked, facts.write_only)
    generated = {path[0] for path in facts.read_only if len(path) == 1}
    hidden = {
        name: value
        for name, value in asked.items()
        if name not in model and given_back.get(name) in (None, {}, [])
    }
    kept = {
        name: value
        for name, value in asked.items()
        if name not in model
        and name not in hidden
        and name not in generated
        and value not in (None, "", [], {})
    }
    identifier = identifier_of(facts, model)
    memory[f"{facts.type_name}\x00{identifier}"] = {"logical": logical_id, "kept": kept, "hidden": hidden}
    return complete(facts, model, memory)


def _called(call: Any, *arguments: Any) -> Any:
    """`call`, its refusals as Failure with the code that a resource handler would give."""
    try:
        return call(*arguments)
    except Exception as error:
        text = str(error) or type(error).__name__
        lower = text.lower()
        if any(word in lower for word in _TAKEN):
            raise Failure("AlreadyExists", text) from error
        if isinstance(error, references.StillInUse) or any(word in lower for word in _HELD):
            raise Failure("ResourceConflict", text) from error
        if isinstance(error, ValueError):
            raise Failure("InvalidRequest", text) from error
        _log.warning("handler of %s failed\n%s", arguments[0], traceback.format_exc())
        raise Failure("GeneralServiceException", f"{type(error).__name__}: {text}") from error
