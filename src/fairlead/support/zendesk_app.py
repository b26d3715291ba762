"""The Zendesk app as a package: reading a folder or zip, checking it, and writing the zip to upload.

A package holds exactly manifest.json, assets/ and translations/. The same files always give the same bytes:
entries sorted, of one fixed date, and stored, because compressors differ between machines.
"""

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fairlead.kernel.errors import FairleadError
from fairlead.support import zendesk_rules as rules
from fairlead.support.zendesk_rules import Fault, Files

PACKAGED = ("assets/", "translations/")
MAX_ENTRIES = 2_000
DATE = (1980, 1, 1, 0, 0, 0)
PLACEHOLDER = "fairlead.example.com"


class AppUnreadable(FairleadError):
    """There is no Zendesk app that can be read at this path."""

    code, status, retryable = "support.app_unreadable", 422, False


class AppInvalid(FairleadError):
    """The Zendesk app breaks rules and is not packaged."""

    code, status, retryable = "support.app_invalid", 422, False


class ServerAddressInvalid(FairleadError):
    """The server's address is not https with a host name and nothing behind it."""

    code, status, retryable = "support.server_address_invalid", 422, False


def app_dir() -> Path:
    """Folder of the app that belongs to this server: inside the wheel, else in the checkout."""
    packaged = Path(__file__).parents[1] / "zendesk-app"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "zendesk-app"


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found. Valid means: no faults; warnings are allowed."""

    source: str
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    file_count: int
    size_bytes: int

    @property
    def valid(self) -> bool:
        """Whether it may be packaged and uploaded."""
        return not self.faults

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "valid": self.valid,
            "source": self.source,
            "files": self.file_count,
            "size_bytes": self.size_bytes,
            "faults": [_fault_document(fault) for fault in self.faults],
            "warnings": [_fault_document(fault) for fault in self.warnings],
        }


def _fault_document(fault: Fault) -> dict[str, str]:
    return {"path": fault.path, "code": fault.code, "message": fault.message}


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


def read_app(source: Path) -> tuple[dict[str, bytes], list[Fault]]:
    """Files of the app by their path in the package, and faults of the container itself.

    Raises AppUnreadable where there is neither a folder nor a zip.
    """
    if source.is_dir():
        return _read_folder(source)
    try:
        with zipfile.ZipFile(source) as archive:
            return _read_zip(archive)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise AppUnreadable(
            f"{source}: {error}.", remedy="Name the app's folder or the zip made of it.", path=str(source)
        ) from error


def _read_folder(source: Path) -> tuple[dict[str, bytes], list[Fault]]:
    files: dict[str, bytes] = {}
    faults: list[Fault] = []
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        packaged = name == "manifest.json" or name.startswith(PACKAGED)
        if not packaged or path.is_dir():
            continue
        if path.is_symlink():
            faults.append(Fault(name, "app.link", "Links are not followed; put the file itself here."))
        else:
            files[name] = path.read_bytes()
    return files, faults


def _read_zip(archive: zipfile.ZipFile) -> tuple[dict[str, bytes], list[Fault]]:
    entries = archive.infolist()
    # Sizes are looked at before anything is unpacked: a small zip can hold a large nothing.
    if len(entries) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > 4 * rules.MAX_APP_BYTES:
        return {}, [Fault(".", "app.too_large", "It holds more files or bytes than any app may.")]
    files: dict[str, bytes] = {}
    faults: list[Fault] = []
    for entry in entries:
        name = entry.filename
        if name.endswith("/"):
            continue
        if name.startswith("/") or "\\" in name or ".." in name.split("/") or ":" in name:
            faults.append(Fault(name[:80], "app.path", "Paths must stay inside the package."))
        elif name in files:
            faults.append(Fault(name, "app.twice", "It is in the zip twice."))
        elif (entry.external_attr >> 16) & 0o170000 == 0o120000:
            faults.append(Fault(name, "app.link", "Links are not allowed."))
        else:
            files[name] = archive.read(entry)
    return files, faults


# ── checking ──────────────────────────────────────────────────────────────────────────────────────


def validate(source: Path) -> Report:
    """Every rule on the app at `source`, a folder or a zip. Raises AppUnreadable."""
    files, faults = read_app(source)
    if source.is_dir():
        faults += _check_vendored(source, files)
    return check(files, faults, name=str(source))


def check(files: Files, faults: list[Fault] | None = None, *, name: str = "the app") -> Report:
    """Every rule on `files`; `faults` of reading them are kept."""
    found = list(faults or ())
    found += rules.check_files(files)
    manifest: Any = None
    if "manifest.json" in files:
        manifest, unreadable = rules.parse_json("manifest.json", files)
        found += unreadable or rules.check_manifest(manifest, files)
    found += rules.check_translations(manifest, files)
    found += rules.check_secrets(files)
    found += rules.check_scripts(files)
    warnings = sorted(rules.placeholders(manifest)) if manifest else []
    size = sum(len(data) for data in files.values())
    return Report(name, tuple(sorted(set(found))), tuple(warnings), len(files), size)


def _check_vendored(source: Path, files: Files) -> list[Fault]:
    """Vendored code is byte for byte what vendor.json names."""
    listed: dict[str, Any] = {}
    if (source / "vendor.json").is_file():
        try:
            listed = json.loads((source / "vendor.json").read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            return [Fault("vendor.json", "app.not_json", f"It is not JSON: {error}.")]
    faults = []
    for path in sorted(files):
        if path.startswith(rules.VENDOR) and path.endswith(".js"):
            wanted = listed.get(path, {}).get("sha256")
            if wanted != hashlib.sha256(files[path]).hexdigest():
                faults.append(Fault(path, "app.vendored", "It is not the file that vendor.json names."))
    return faults


# ── packaging ─────────────────────────────────────────────────────────────────────────────────────


def package(source: Path, out: Path, *, server_url: str | None = None) -> tuple[str, int]:
    """Write the package of the app in folder `source`; its (SHA-256, size in bytes).

    `server_url` replaces the placeholder of the manifest. Raises AppUnreadable, AppInvalid with all faults,
    ServerAddressInvalid.
    """
    if not source.is_dir():
        raise AppUnreadable(
            f"{source} is no folder.", remedy="Name the folder that holds manifest.json.", path=str(source)
        )
    report = validate(source)
    if not report.valid:
        raise AppInvalid(
            f"{source} breaks {len(report.faults)} rules.",
            remedy="Repair what `fairlead support validate-app` lists.",
            faults=[_fault_document(fault) for fault in report.faults],
        )
    files, _ = read_app(source)
    if server_url:
        files["manifest.json"] = with_server(files["manifest.json"], server_url)
    data = zip_bytes(files)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(data)
    except OSError as error:
        raise AppUnreadable(
            f"{out} cannot be written: {error.strerror}.", remedy="Name another place.", path=str(out)
        ) from error
    return hashlib.sha256(data).hexdigest(), len(data)


def with_server(manifest: bytes, server_url: str) -> bytes:
    """The manifest for the server at `server_url`, e.g. "https://support.acme.kr"."""
    parts = urlsplit(server_url.rstrip("/"))
    loopback = parts.hostname in ("127.0.0.1", "localhost")
    host = re.fullmatch(r"[a-z0-9.-]+(:\d{1,5})?", parts.netloc)
    https = parts.scheme == "https" or (parts.scheme == "http" and loopback)
    if not https or not host or parts.path or parts.query or parts.fragment:
        raise ServerAddressInvalid(
            f"{server_url[:80]!r} cannot be the server's address.", remedy="Write https://support.acme.kr."
        )
    text = manifest.decode("utf-8").replace(f"https://{PLACEHOLDER}", f"{parts.scheme}://{parts.netloc}")
    return text.replace(f'"{PLACEHOLDER}"', f'"{parts.netloc}"').encode()


def zip_bytes(files: Files) -> bytes:
    """A zip of `files`: always the same bytes for the same files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path, date_time=DATE)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            archive.writestr(entry, files[path])
    return target.getvalue()
