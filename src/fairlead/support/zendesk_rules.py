"""What a Zendesk app must be, as functions from its files to faults. Offline: nothing is fetched.

The rules of manifest and translations are those that Zendesk applies on upload; those about secrets,
scripts and markup are ours and stricter.
"""

import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from posixpath import dirname, join, normpath
from typing import Any
from urllib.parse import urlsplit

Files = Mapping[str, bytes]

SDK = "https://static.zdassets.com/zendesk_app_framework_sdk/2.0/zaf_sdk.min.js"
VENDOR = "assets/vendor/"
MAX_FILE_BYTES, MAX_APP_BYTES = 1024 * 1024, 5 * 1024 * 1024
_BANNED_WORDS = (
    "zip gz tgz rar 7z tar jar pdf doc docx xls xlsx ppt pptx csh sh bat exe dll so mp3 mp4 mov py rb php"
)
BANNED_ENDINGS = frozenset(_BANNED_WORDS.split())
ICONS = {"assets/logo.png": 320, "assets/logo-small.png": 128}
_SUPPORT_PLACES = (
    "ticket_sidebar new_ticket_sidebar user_sidebar organization_sidebar modal ticket_editor nav_bar top_bar"
    " background"
)
_SELL_PLACES = "deal_card person_card company_card lead_card background modal dashboard note_editor"
PLACES: Mapping[str, frozenset[str]] = {
    "support": frozenset(_SUPPORT_PLACES.split()),
    "chat": frozenset({"main_panel", "background", "chat_sidebar"}),
    "sell": frozenset(_SELL_PLACES.split()),
}
PARAMETER_TYPES = frozenset(
    ["text", "checkbox", "url", "number", "multiline", "hidden", "oauth", "mtls", "dropdown", "password"]
)
SCOPES = frozenset(
    ["header", "body", "url", "jwt_secret_key", "jwt_claim", "basic_auth_username", "basic_auth_password"]
)
FLAGS = ("private", "singleInstall", "signedUrls", "requirementsOnly", "marketingOnly", "noTemplate")


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong: the file and place, a stable code and what to do."""

    path: str
    code: str
    message: str


def check_files(files: Files) -> Iterator[Fault]:
    """Sizes, kinds of files, and that everything lies where Zendesk looks."""
    if "manifest.json" not in files:
        nested = next((path for path in files if path.endswith("/manifest.json")), None)
        where = f"it is at {nested}; pack the folder's contents, not the folder" if nested else "add one"
        yield Fault("manifest.json", "app.no_manifest", f"There is no manifest.json at the top: {where}.")
    for path, data in files.items():
        ending = path.rsplit(".", 1)[-1].lower() if "." in path else ""
        if ending in BANNED_ENDINGS:
            yield Fault(path, "app.banned_file", f"Zendesk takes no .{ending} files.")
        if len(data) > MAX_FILE_BYTES:
            yield Fault(
                path, "app.file_too_large", f"{len(data):,} bytes; at most {MAX_FILE_BYTES:,} are taken."
            )
        if path != "manifest.json" and not path.startswith(("assets/", "translations/")):
            yield Fault(path, "app.stray_file", "Only manifest.json, assets/ and translations/ belong here.")
    total = sum(len(data) for data in files.values())
    if total > MAX_APP_BYTES:
        yield Fault(".", "app.too_large", f"{total:,} bytes together; at most {MAX_APP_BYTES:,} are taken.")
    for path, side in ICONS.items():
        yield from _check_icon(path, files.get(path), side)


def _check_icon(path: str, data: bytes | None, side: int) -> Iterator[Fault]:
    if data is None:
        yield Fault(path, "app.no_icon", f"A PNG of {side} x {side} pixels is needed.")
    elif data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        yield Fault(path, "app.icon_unreadable", "This is no PNG.")
    elif struct.unpack(">II", data[16:24]) != (side, side):
        width, height = struct.unpack(">II", data[16:24])
        yield Fault(path, "app.icon_size", f"It is {width} x {height} pixels; {side} x {side} are needed.")


def parse_json(path: str, files: Files) -> tuple[Any, list[Fault]]:
    """The JSON of a file that is there, or None and the fault."""
    try:
        return json.loads(files[path].decode("utf-8")), []
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        return None, [Fault(path, "app.not_json", f"It is not JSON: {error}.")]


# ── manifest ──────────────────────────────────────────────────────────────────────────────────────


def check_manifest(manifest: Any, files: Files) -> Iterator[Fault]:
    """Required fields and their forms."""
    here = "manifest.json"
    if not isinstance(manifest, dict):
        yield Fault(here, "manifest.form", "It must be one JSON object.")
        return
    author = manifest.get("author")
    if not isinstance(author, dict) or not author.get("name") or not author.get("email"):
        yield Fault(here, "manifest.author", "author needs a name and an email.")
    locale = manifest.get("defaultLocale")
    if not isinstance(locale, str) or not re.fullmatch(r"[a-z]{2,3}(-[a-zA-Z0-9]{2,3})?", locale):
        yield Fault(here, "manifest.default_locale", "defaultLocale must be like en or en-US.")
    elif f"translations/{locale}.json" not in files:
        yield Fault(here, "manifest.default_locale", f"There is no translations/{locale}.json.")
    if manifest.get("frameworkVersion") != "2.0":
        yield Fault(here, "manifest.framework_version", 'frameworkVersion must be "2.0".')
    for flag in FLAGS:
        if not isinstance(manifest.get(flag, False), bool):
            yield Fault(here, "manifest.flag", f"{flag} must be true or false.")
    for name in ("name", "version"):
        if not isinstance(manifest.get(name, ""), str):
            yield Fault(here, "manifest.text", f"{name} must be text.")
    yield from _check_location(manifest, files)
    yield from _check_parameters(manifest.get("parameters", []))
    yield from _check_domains(manifest.get("domainWhitelist", []))


def _check_location(manifest: dict[str, Any], files: Files) -> Iterator[Fault]:
    here, location = "manifest.json", manifest.get("location")
    if not isinstance(location, dict) or not location:
        yield Fault(here, "manifest.location", "location must name a product and a place in it.")
        return
    for host, places in location.items():
        if host not in PLACES:
            yield Fault(here, "manifest.location", f"{host!r} is no product; {', '.join(PLACES)} are.")
        for place, value in places.items() if isinstance(places, dict) else [("", None)]:
            if place not in PLACES.get(host, frozenset({place})) or not place:
                yield Fault(here, "manifest.location", f"{place!r} is no place of {host}.")
            url = value.get("url") if isinstance(value, dict) else value
            flexible = value.get("flexible", False) if isinstance(value, dict) else False
            if not isinstance(flexible, bool):
                yield Fault(here, "manifest.location", f"{host}.{place}.flexible must be true or false.")
            signed = manifest.get("signedUrls") is True
            yield from _check_location_url(f"{host}.{place}", url, files, signed=signed)


def _check_location_url(place: str, url: Any, files: Files, *, signed: bool) -> Iterator[Fault]:
    here = "manifest.json"
    if not isinstance(url, str) or not url:
        yield Fault(here, "manifest.location_url", f"{place} needs a url.")
    elif "{{setting." in url or _is_web(url):
        return
    elif urlsplit(url).scheme:
        yield Fault(here, "manifest.location_url", f"{place}: {url} must begin with https://.")
    elif url not in files:
        yield Fault(here, "manifest.location_url", f"{place}: there is no file {url}.")
    elif signed:
        yield Fault(here, "manifest.signed_urls", f"{place}: Zendesk signs only absolute addresses.")


def _is_web(url: str) -> bool:
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and loopback))


_LOOKS_SECRET = re.compile(r"token|secret|key|pwd|passw|credential", re.IGNORECASE)


def _check_parameters(parameters: Any) -> Iterator[Fault]:
    here = "manifest.json"
    if not isinstance(parameters, list) or not all(isinstance(p, dict) for p in parameters):
        yield Fault(here, "manifest.parameters", "parameters must be a list of objects.")
        return
    names = [p.get("name") for p in parameters]
    for name in sorted({str(name) for name in names if names.count(name) > 1}):
        yield Fault(here, "manifest.parameter_twice", f"The parameter {name} is there twice.")
    for parameter in parameters:
        yield from _check_parameter(parameter)


def _check_parameter(parameter: dict[str, Any]) -> Iterator[Fault]:
    here, name = "manifest.json", parameter.get("name")
    if not isinstance(name, str) or not name or name == "name":
        yield Fault(here, "manifest.parameter_name", f"{name!r} cannot be the name of a parameter.")
    if parameter.get("type", "text") not in PARAMETER_TYPES:
        yield Fault(here, "manifest.parameter_type", f"{name}: there is no type {parameter.get('type')!r}.")
    for flag in ("required", "secure"):
        if not isinstance(parameter.get(flag, False), bool):
            yield Fault(here, "manifest.parameter_flag", f"{name}: {flag} must be true or false.")
    secure = parameter.get("secure") is True
    if not secure and isinstance(name, str) and _LOOKS_SECRET.search(name):
        yield Fault(here, "manifest.parameter_secret", f'{name} looks like a secret: set "secure": true.')
    if secure and "default" in parameter:
        yield Fault(here, "manifest.parameter_default", f"{name} is secure and cannot have a default.")
    scopes = parameter.get("scopes")
    if secure and (not isinstance(scopes, list) or not scopes or not set(map(str, scopes)) <= SCOPES):
        listed = ", ".join(sorted(SCOPES))
        yield Fault(here, "manifest.parameter_scopes", f"{name} is secure and needs scopes out of {listed}.")


def _check_domains(domains: Any) -> Iterator[Fault]:
    if not isinstance(domains, list):
        yield Fault("manifest.json", "manifest.domains", "domainWhitelist must be a list.")
        return
    for domain in domains:
        if not isinstance(domain, str) or not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d+)?", domain):
            yield Fault(
                "manifest.json", "manifest.domains", f"{domain!r} is no host name (no scheme, no path)."
            )


def placeholders(manifest: Any) -> Iterator[Fault]:
    """Warnings about what must be set before an upload."""
    text = json.dumps(manifest)
    if re.search(r"\bexample\.(?:com|org|net)\b", text):
        yield Fault(
            "manifest.json",
            "manifest.placeholder",
            "It names example.com: package it with --server-url before you upload it.",
        )


# ── translations ──────────────────────────────────────────────────────────────────────────────────


def flat(node: Any, prefix: str = "") -> dict[str, str]:
    """Leaves of nested translations by dotted key."""
    if not isinstance(node, dict):
        return {prefix: str(node)}
    found: dict[str, str] = {}
    for key, value in node.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


_VALUE = re.compile(r"\{(\w+)\}")
_USED = re.compile(r"words\(\s*(?:\w+\s*===?\s*\"\w+\"\s*\?\s*)?\"([\w.]+)\"(?:\s*:\s*\"([\w.]+)\")?")
_USED_FAMILY = re.compile(r"words\(\s*`([\w.]+)\.\$\{")


def check_translations(manifest: Any, files: Files) -> Iterator[Fault]:
    """The same keys and values to fill in for every language; what Zendesk and the code ask for is there."""
    languages: dict[str, dict[str, str]] = {}
    for path in sorted(files):
        if re.fullmatch(r"translations/[\w-]+\.json", path):
            value, faults = parse_json(path, files)
            yield from faults
            if isinstance(value, dict):
                languages[path] = flat(value)
    every = {key for words in languages.values() for key in words}
    for path, words in languages.items():
        for key in sorted(every - set(words)):
            yield Fault(path, "translations.missing", f"{key} is missing; another language has it.")
        for key in sorted(key for key, text in words.items() if not text.strip()):
            yield Fault(path, "translations.empty", f"{key} is empty.")
        for key in _asked_by_zendesk(manifest):
            if key not in words:
                yield Fault(path, "translations.missing", f"{key} is missing; Zendesk shows it.")
    yield from _different_values(languages)
    yield from _used_keys(files, every)


def _asked_by_zendesk(manifest: Any) -> list[str]:
    parameters = manifest.get("parameters", []) if isinstance(manifest, dict) else []
    names = [p["name"] for p in parameters if isinstance(p, dict) and isinstance(p.get("name"), str)]
    return ["app.name", "app.short_description", "app.long_description", "app.installation_instructions"] + [
        f"app.parameters.{name}.label" for name in names
    ]


def _different_values(languages: dict[str, dict[str, str]]) -> Iterator[Fault]:
    if not languages:
        return
    first, reference = next(iter(languages.items()))
    for path, words in languages.items():
        for key in sorted(set(words) & set(reference)):
            if set(_VALUE.findall(words[key])) != set(_VALUE.findall(reference[key])):
                yield Fault(path, "translations.values", f"{key} fills in other values than {first}.")


def _used_keys(files: Files, every: set[str]) -> Iterator[Fault]:
    for path, text in own_texts(files, ".js"):
        for match in _USED.finditer(text):
            for key in filter(None, match.groups()):
                if key not in every:
                    yield Fault(path, "translations.unknown", f"It uses {key}, which no language has.")
        for match in _USED_FAMILY.finditer(text):
            if not any(key.startswith(f"{match[1]}.") for key in every):
                yield Fault(path, "translations.unknown", f"It uses {match[1]}.…, which no language has.")


# ── secrets and scripts ───────────────────────────────────────────────────────────────────────────


def own_texts(files: Files, *endings: str) -> Iterator[tuple[str, str]]:
    """Our files of these kinds as text, vendored ones left out."""
    for path, data in sorted(files.items()):
        if path.endswith(endings) and not path.startswith(VENDOR):
            yield path, data.decode("utf-8", errors="replace")


_SECRETS = (
    ("an AWS access key id", re.compile(r"\b(?:AKIA|ASIA|AROA)[0-9A-Z]{16}\b")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a signed token", re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.")),
    ("a chat or code host's token", re.compile(r"\b(?:xox[abprs]-|ghp_|gho_|github_pat_|sk-)[\w-]{16,}")),
    (
        "a secret written out",
        re.compile(r"(?i)[\"']?[\w-]*(?:secret|passw(?:or)?d|api_?key|access_?token)[\w-]*[\"']?\s*[:=]\s*[\"'](?!\{\{)[A-Za-z0-9/+_=.-]{12,}[\"']"),
    ),
)  # fmt: skip


def check_secrets(files: Files) -> Iterator[Fault]:
    """Nothing that looks like a credential; the credential itself is not repeated."""
    for path, text in own_texts(files, ".js", ".json", ".html", ".css", ".svg", ".txt"):
        for what, pattern in _SECRETS:
            if match := pattern.search(text):
                line = text.count("\n", 0, match.start()) + 1
                yield Fault(f"{path}:{line}", "app.secret", f"There seems to be {what}.")


_SINKS = re.compile(
    r"\.(?:inner|outer)HTML\b|\.insertAdjacentHTML\b|\bdocument\.write(?:ln)?\b|\beval\s*\(|\bnew\s+Function\b"
    r"|\bcreateContextualFragment\b|\.srcdoc\b|\bsetHTMLUnsafe\b|\bjavascript:"
)
_IMPORT = re.compile(r"(?:\bfrom|\bimport)\s*\(?\s*[\"']([^\"']+)[\"']")
_REMOTE_CSS = re.compile(r"@import|url\(\s*[\"']?(?:https?:)?//", re.IGNORECASE)


def check_scripts(files: Files) -> Iterator[Fault]:
    """No script from elsewhere but Zendesk's SDK, none inline, and no way for text to become markup."""
    for path, text in own_texts(files, ".html"):
        page = _Page(path, files)
        page.feed(text)
        yield from page.faults
        if not page.policy:
            yield Fault(path, "app.no_policy", "It has no Content-Security-Policy.")
    for path, text in own_texts(files, ".js"):
        for match in _SINKS.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield Fault(
                f"{path}:{line}", "app.markup_sink", f"{match.group()} turns text into markup or code."
            )
        for name in _IMPORT.findall(text):
            yield from _check_import(path, name, files)
    for path, text in own_texts(files, ".css", ".svg"):
        if _REMOTE_CSS.search(text) or (
            path.endswith(".svg") and re.search(r"<script|\son\w+=", text, re.IGNORECASE)
        ):
            yield Fault(path, "app.external", "It loads something from elsewhere or runs a script.")


def _check_import(path: str, name: str, files: Files) -> Iterator[Fault]:
    if not name.startswith("."):
        yield Fault(path, "app.external_script", f"It imports {name}; only files of the app may be imported.")
    elif normpath(join(dirname(path), name)) not in files:
        yield Fault(path, "app.missing_file", f"It imports {name}, which is not there.")


class _Page(HTMLParser):
    """One HTML file: what it loads, and what it runs inline."""

    def __init__(self, path: str, files: Files) -> None:
        super().__init__()
        self.path, self.files = path, files
        self.faults: list[Fault] = []
        self.policy = False
        self._in_script = False

    def _fault(self, code: str, message: str) -> None:
        self.faults.append(Fault(f"{self.path}:{self.getpos()[0]}", code, message))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._in_script = tag == "script" and "src" not in values
        if tag == "meta" and values.get("http-equiv", "").lower() == "content-security-policy":
            self.policy = True
        for name in values:
            if name.startswith("on") or name == "style":
                self._fault("app.inline", f"<{tag} {name}=…> is inline; put it into a file.")
        for name in ("src", "href", "action", "data"):
            if name in values:
                self._check_address(tag, values[name])

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self._fault("app.inline", "There is an inline script; put it into a file.")

    def _check_address(self, tag: str, address: str) -> None:
        if address == SDK or address.startswith("#"):
            return
        if urlsplit(address).scheme or address.startswith("//"):
            code = "app.external_script" if tag == "script" else "app.external"
            self._fault(code, f"<{tag}> loads {address[:80]}; only Zendesk's SDK may come from elsewhere.")
        elif normpath(join(dirname(self.path), urlsplit(address).path)) not in self.files:
            self._fault("app.missing_file", f"<{tag}> loads {address[:80]}, which is not there.")
