"""What lies in a case folder, and how its files are opened: bounded, inside the folder, regular files only.

A case folder comes from outside. A link may lead out of it, a name may hold a newline, a file may be empty
or larger than the memory. Every one of these is a CaseFault; nothing else leaves this module.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fairlead.cases.model import CaseFault, Violation, delivery_label
from fairlead.kernel.errors import NotFound

READY_MARKER = "_CASE_READY"
MAX_FILES = 50_000
MAX_DEPTH = 4
# Largest file of a kind. A plan with 100 000 spots has 2 MB, the longest layer seen 1 MB.
MAX_DICOM_BYTES = 64 * 1024 * 1024
MAX_DOSE_BYTES = 1024 * 1024 * 1024
MAX_TEXT_BYTES = 4 * 1024 * 1024
MAX_LOG_BYTES = 64 * 1024 * 1024

_DELIVERY = re.compile(r"\d{16}")
_OWN_NAMES = {READY_MARKER, "CT", "PlanInfo.txt", "PlanRange.txt", "PlanRange.csv"}
_KINDS = {".dcm", ".ptn", ".mgn", ".txt", ".csv"}
_SAFE_NAME = re.compile(r"[A-Za-z0-9._+=@ -]{1,200}")


class CaseNotFound(NotFound):
    """There is no case folder at this place."""

    code, status, retryable = "cases.not_found", 404, False


@dataclass(frozen=True, slots=True)
class CaseFolder:
    """What was found in a case folder; paths are absolute and inside it."""

    root: Path
    ready: bool
    dicom: tuple[Path, ...]  # candidates for the plan: top level and one level down, deliveries and CT apart
    ct: Path | None
    deliveries: tuple[Path, ...]
    violations: tuple[Violation, ...]
    others: tuple[Path, ...] = ()  # folders that are neither a delivery nor the CT


def shown(path: Path, root: Path, *, hidden: tuple[str, ...] = ()) -> str:
    """`path` relative to `root`, printable, with the identifiers in `hidden` replaced."""
    relative = os.path.relpath(path, root) if path.is_absolute() else str(path)
    return shown_name(relative, hidden=hidden)


def shown_name(name: str, *, hidden: tuple[str, ...] = ()) -> str:
    """A name from outside made printable: identifiers replaced, control characters escaped, shortened."""
    for identifier in sorted({part for part in hidden if part}, key=len, reverse=True):
        # Whole words only: a patient called "1" must not blank every digit.
        name = re.sub(rf"(?<![A-Za-z0-9]){re.escape(identifier)}(?![A-Za-z0-9])", "[patient]", name)
    clean = name.encode("utf-8", "backslashreplace").decode("utf-8")
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in clean)
    return clean if len(clean) <= 240 else f"{clean[:237]}..."


def anonymous_places(root: Path) -> dict[str, str]:
    """Every path below `root`, as `shown` has it, and a name for it that holds nothing a sender chose.

    `CT/#20.dcm` is the twentieth entry, by name, of the folder CT. What cannot be read is left out.
    """
    found = {".": "."}
    pending = [(root, "")]
    while pending and len(found) < MAX_FILES:
        folder, place = pending.pop()
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        for number, path in enumerate(entries, start=1):
            name = f"{place}{_anonymous(path.name, number)}"
            found[shown(path, root)] = name
            if path.is_dir() and not path.is_symlink():
                pending.append((path, f"{name}/"))
    return found


def _anonymous(name: str, number: int) -> str:
    if name in _OWN_NAMES:
        return name
    if _DELIVERY.fullmatch(name):
        return delivery_label(name)
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a name, not a path
    return f"#{number}{suffix if suffix in _KINDS else ''}"


def is_safe_name(name: str) -> bool:
    """Whether `name` is one plain file name: no separators, no control or shell characters."""
    return bool(_SAFE_NAME.fullmatch(name)) and name not in {".", ".."} and not name.startswith("-")


def read_bytes(path: Path, *, file: str, limit: int, kind: str) -> bytes:
    """The content of the regular file `path`, never through a link. Raises CaseFault, which says `file`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CaseFault(
            f"the file cannot be opened ({_reason(error)})", rule=f"{kind}.unreadable", file=file
        ) from None
    except ValueError:
        raise CaseFault("the name of the file is not usable", rule="folder.hostile_name", file=file) from None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CaseFault("this is not a regular file", rule=f"{kind}.unreadable", file=file)
        if status.st_size == 0:
            raise CaseFault("the file is empty", rule=f"{kind}.empty", file=file)
        if status.st_size > limit:
            raise CaseFault(
                f"the file has {status.st_size} bytes, more than the {limit} allowed",
                rule=f"{kind}.too_large",
                file=file,
            )
        try:
            return stream.read(limit)
        except OSError as error:
            raise CaseFault(
                f"the file cannot be read ({_reason(error)})", rule=f"{kind}.unreadable", file=file
            ) from None


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def look(case: Path) -> CaseFolder:
    """What lies in the folder `case`. Raises CaseNotFound where that is not a folder."""
    if not case.is_dir():
        raise CaseNotFound(
            "The case folder does not exist or is not a folder.",
            remedy="Name the folder that holds the plan and the delivery folders.",
        )
    root = Path(os.path.realpath(case))
    violations: list[Violation] = []
    files: list[Path] = []
    folders: list[Path] = []
    for path in _walk(root, violations):
        (folders if path.is_dir() else files).append(path)
    deliveries = tuple(sorted(p for p in folders if p.parent == root and _DELIVERY.fullmatch(p.name)))
    ct = next((p for p in folders if p.parent == root and p.name.upper() == "CT"), None)
    apart = {*deliveries, *([ct] if ct else [])}
    dicom = tuple(
        sorted(
            p
            for p in files
            if p.suffix.lower() == ".dcm"
            and (p.parent == root or (p.parent.parent == root and p.parent not in apart))
        )
    )
    ready = any((place / READY_MARKER).is_file() for place in (root, root.parent))
    others = tuple(sorted({root, *folders} - apart))
    return CaseFolder(root, ready, dicom, ct, deliveries, tuple(violations), others)


def _walk(root: Path, violations: list[Violation]) -> Iterator[Path]:
    """Files and folders under `root`; what is hostile becomes a violation and is left out."""
    pending, seen = [(root, 0)], 0
    while pending:
        folder, depth = pending.pop()
        for path in _entries(folder, root, violations):
            seen += 1
            if seen > MAX_FILES:
                violations.append(
                    Violation(
                        "folder.too_many_files", ".", "", f"the folder holds more than {MAX_FILES} files"
                    )
                )
                return
            if (fault := _fault_of(path, root)) is not None:
                violations.append(fault)
                continue
            yield path
            if path.is_dir() and depth < MAX_DEPTH:
                pending.append((path, depth + 1))


def _entries(folder: Path, root: Path, violations: list[Violation]) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        violations.append(
            Violation(
                "folder.unreadable", shown(folder, root), "", f"the folder cannot be read ({_reason(error)})"
            )
        )
        return []


def _fault_of(path: Path, root: Path) -> Violation | None:
    if not is_safe_name(path.name):
        return Violation(
            "folder.hostile_name",
            shown(path, root),
            "name",
            "the name holds characters other than letters, digits, space and . _ + = @ -",
        )
    if path.is_symlink():
        inside = Path(os.path.realpath(path)).is_relative_to(root)
        words = (
            "a link inside the folder; copy the file instead"
            if inside
            else "a link that leads out of the case folder"
        )
        return Violation("folder.symlink", shown(path, root), "", words)
    if not (path.is_dir() or path.is_file()):
        return Violation("folder.special_file", shown(path, root), "", "neither a regular file nor a folder")
    return None
