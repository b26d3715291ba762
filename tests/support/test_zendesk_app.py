"""The offline validator and the package of the Zendesk app; every rule is broken once."""
# Rows of tables and JavaScript stay on one line; texts are what users type.
# ruff: noqa: E501

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.kernel.errors import FairleadError
from fairlead.support.zendesk_app import (
    AppInvalid,
    AppUnreadable,
    ServerAddressInvalid,
    check,
    package,
    read_app,
    validate,
    with_server,
    zip_bytes,
)
from tests.support.zendesk_page import ROOT

APP = ROOT / "zendesk-app"
Files = dict[str, bytes]
MANIFEST: dict[str, Any] = json.loads((APP / "manifest.json").read_text())


def real() -> Files:
    return read_app(APP)[0]


def test_the_real_app_is_valid_and_only_has_to_be_told_its_server() -> None:
    report = validate(APP)
    assert report.faults == ()
    assert [warning.code for warning in report.warnings] == ["manifest.placeholder"]


def manifest(**changes: Any) -> Callable[[Files], Files]:
    kept = {k: v for k, v in {**MANIFEST, **changes}.items() if v is not None}
    return lambda files: {**files, "manifest.json": json.dumps(kept).encode()}


def place(
    url: Any, name: str = "ticket_sidebar", host: str = "support", **more: Any
) -> Callable[[Files], Files]:
    return manifest(location={host: {name: {"url": url, **more}}}, signedUrls=False)


def parameter(**values: Any) -> Callable[[Files], Files]:
    return manifest(
        parameters=[
            {"name": "shared_secret", "type": "text", "secure": True, "scopes": ["jwt_secret_key"], **values}
        ]
    )


def put(path: str, data: bytes | str) -> Callable[[Files], Files]:
    return lambda files: {**files, path: data.encode() if isinstance(data, str) else data}


def add(path: str, text: str) -> Callable[[Files], Files]:
    return lambda files: {**files, path: files.get(path, b"") + text.encode()}


def without(path: str) -> Callable[[Files], Files]:
    return lambda files: {name: data for name, data in files.items() if name != path}


def words(change: Callable[[dict[str, Any]], None]) -> Callable[[Files], Files]:
    def apply(files: Files) -> Files:
        value = json.loads(files["translations/ko.json"])
        change(value)
        return {**files, "translations/ko.json": json.dumps(value).encode()}

    return apply


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        pytest.param(without("manifest.json"), "app.no_manifest", id="no manifest"),
        pytest.param(put("manifest.json", "{"), "app.not_json", id="manifest is no JSON"),
        pytest.param(put("manifest.json", "[]"), "manifest.form", id="manifest is a list"),
        pytest.param(manifest(author=None), "manifest.author", id="no author"),
        pytest.param(manifest(defaultLocale="english"), "manifest.default_locale", id="odd locale"),
        pytest.param(manifest(defaultLocale="fr"), "manifest.default_locale", id="locale without file"),
        pytest.param(manifest(frameworkVersion="1.0"), "manifest.framework_version", id="framework 1"),
        pytest.param(manifest(private="yes"), "manifest.flag", id="flag is text"),
        pytest.param(manifest(location=None), "manifest.location", id="no location"),
        pytest.param(manifest(version=1), "manifest.text", id="version is a number"),
        pytest.param(place("assets/iframe.html", name="cellar"), "manifest.location", id="no such place"),
        pytest.param(place("assets/iframe.html", host="phone"), "manifest.location", id="no such product"),
        pytest.param(place("assets/iframe.html", flexible="yes"), "manifest.location", id="flexible is text"),
        pytest.param(place("assets/other.html"), "manifest.location_url", id="no such file"),
        pytest.param(place("http://support.acme.kr/"), "manifest.location_url", id="plain http"),
        pytest.param(place(None), "manifest.location_url", id="no url"),
        pytest.param(manifest(location={"support": {"ticket_sidebar": {"url": "assets/iframe.html"}}}), "manifest.signed_urls", id="signed but relative"),
        pytest.param(parameter(name="name"), "manifest.parameter_name", id="reserved name"),
        pytest.param(parameter(type="colour"), "manifest.parameter_type", id="no such type"),
        pytest.param(parameter(required="yes"), "manifest.parameter_flag", id="required is text"),
        pytest.param(parameter(secure=False), "manifest.parameter_secret", id="secret not secure"),
        pytest.param(parameter(default="x"), "manifest.parameter_default", id="secure with default"),
        pytest.param(parameter(scopes=None), "manifest.parameter_scopes", id="secure without scopes"),
        pytest.param(parameter(scopes=["everything"]), "manifest.parameter_scopes", id="no such scope"),
        pytest.param(manifest(parameters=MANIFEST["parameters"] * 2), "manifest.parameter_twice", id="parameter twice"),
        pytest.param(manifest(parameters={}), "manifest.parameters", id="parameters no list"),
        pytest.param(manifest(domainWhitelist=["https://x.kr"]), "manifest.domains", id="domain with scheme"),
        pytest.param(manifest(domainWhitelist="x.kr"), "manifest.domains", id="domains no list"),
        pytest.param(words(lambda w: w["insert"].pop("copy")), "translations.missing", id="key missing in one language"),
        pytest.param(words(lambda w: w["insert"].update(extra="x")), "translations.missing", id="key only in one language"),
        pytest.param(words(lambda w: w["app"].pop("name")), "translations.missing", id="Zendesk's key missing"),
        pytest.param(words(lambda w: w["insert"].update(copy=" ")), "translations.empty", id="empty"),
        pytest.param(words(lambda w: w["composer"].update(left="남음")), "translations.values", id="value lost"),
        pytest.param(put("translations/ko.json", "{"), "app.not_json", id="translation no JSON"),
        pytest.param(add("assets/app.js", '\nwords("no.such.key");'), "translations.unknown", id="code uses unknown key"),
        pytest.param(add("assets/app.js", "\nwords(`nowhere.${x}`);"), "translations.unknown", id="code uses unknown family"),
        pytest.param(add("assets/app.js", '\nconst k = "AKIA' + "ABCDEFGHIJKLMNOP" + '";'), "app.secret", id="AWS key"),
        pytest.param(add("assets/app.js", '\nconst apiKey = "' + "abcdef0123456789" + '";'), "app.secret", id="secret written out"),
        pytest.param(put("assets/k.txt", "-----BEGIN " + "PRIVATE KEY-----"), "app.secret", id="private key"),
        pytest.param(add("assets/app.js", "\nx.innerHTML = y;"), "app.markup_sink", id="innerHTML"),
        pytest.param(add("assets/app.js", "\neval(y);"), "app.markup_sink", id="eval"),
        pytest.param(add("assets/app.js", '\nimport x from "https://cdn.example.kr/x.js";'), "app.external_script", id="imports from elsewhere"),
        pytest.param(add("assets/app.js", '\nimport x from "./nothing.js";'), "app.missing_file", id="imports nothing"),
        pytest.param(add("assets/iframe.html", '<script src="https://cdn.kr/x.js"></script>'), "app.external_script", id="script from elsewhere"),
        pytest.param(add("assets/iframe.html", '<script src="//static.zdassets.com/other.js"></script>'), "app.external_script", id="another script of Zendesk's host"),
        pytest.param(add("assets/iframe.html", "<script>1</script>"), "app.inline", id="inline script"),
        pytest.param(add("assets/iframe.html", '<p onclick="x()">'), "app.inline", id="inline handler"),
        pytest.param(add("assets/iframe.html", '<a href="javascript:x()">'), "app.external", id="javascript address"),
        pytest.param(add("assets/iframe.html", '<img src="gone.png">'), "app.missing_file", id="picture is not there"),
        pytest.param(put("assets/bare.html", "<p>x</p>"), "app.no_policy", id="page without policy"),
        pytest.param(add("assets/app.css", "@import 'https://x.kr/a.css';"), "app.external", id="style from elsewhere"),
        pytest.param(without("assets/logo.png"), "app.no_icon", id="no icon"),
        pytest.param(put("assets/logo.png", b"GIF89a"), "app.icon_unreadable", id="icon no PNG"),
        pytest.param(lambda f: {**f, "assets/logo-small.png": f["assets/logo.png"]}, "app.icon_size", id="icon of another size"),
        pytest.param(put("assets/a.pdf", "x"), "app.banned_file", id="banned kind"),
        pytest.param(put("assets/a.bin", b"0" * 1_048_577), "app.file_too_large", id="large file"),
        pytest.param(lambda f: {**f, **{f"assets/{n}.bin": b"0" * 1_000_000 for n in range(6)}}, "app.too_large", id="large app"),
        pytest.param(put("notes.txt", "x"), "app.stray_file", id="stray file"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_named(break_it: Callable[[Files], Files], code: str) -> None:
    assert code in {fault.code for fault in check(break_it(real())).faults}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(place("assets/iframe.html"), id="relative page"),
        pytest.param(place("https://support.acme.kr/x"), id="https"),
        pytest.param(place("{{setting.server}}/x"), id="from a setting"),
        pytest.param(parameter(secure=False, name="language", scopes=None), id="ordinary parameter"),
        pytest.param(add("assets/app.js", '\nconst help = "Where is the secret kept?";'), id="the word secret"),
    ],
)  # fmt: skip
def test_what_is_allowed_raises_no_fault(change: Callable[[Files], Files]) -> None:
    codes = {fault.code for fault in check(change(real())).faults}
    assert codes - {"translations.missing"} == set()


def test_vendored_code_must_be_the_named_file(tmp_path: Path) -> None:
    import shutil

    shutil.copytree(APP, tmp_path / "app")
    vendored = tmp_path / "app/assets/vendor/socket.io.esm.min.js"
    vendored.write_bytes(vendored.read_bytes() + b"//")
    assert [fault.code for fault in validate(tmp_path / "app").faults] == ["app.vendored"]


def test_the_package_is_the_same_bytes_whenever_and_wherever_it_is_made(tmp_path: Path) -> None:
    import os
    import shutil

    shutil.copytree(APP, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*"):
        os.utime(path, (1, 1))
    first = package(APP, tmp_path / "1.zip")
    second = package(tmp_path / "copy", tmp_path / "2.zip")
    assert first == second
    assert hashlib.sha256((tmp_path / "1.zip").read_bytes()).hexdigest() == first[0]
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.namelist() == sorted(real())
        assert "vendor.json" not in archive.namelist()
    assert validate(tmp_path / "1.zip").faults == ()


def test_a_package_for_a_server_names_it_everywhere(tmp_path: Path) -> None:
    package(APP, tmp_path / "app.zip", server_url="https://support.acme.kr:8443/")
    report = validate(tmp_path / "app.zip")
    made = json.loads(read_app(tmp_path / "app.zip")[0]["manifest.json"])
    assert made["domainWhitelist"] == ["support.acme.kr:8443"]
    assert made["location"]["support"]["ticket_sidebar"]["url"].startswith(
        "https://support.acme.kr:8443/support/zendesk/"
    )
    assert report.faults == ()


@pytest.mark.parametrize("url", ["http://support.acme.kr", "ftp://x", "support.acme.kr", "https://a.kr/path", "https://u:p@a.kr", "https://", 'https://a.kr"', ""])  # fmt: skip
def test_a_server_must_be_https_and_nothing_more(url: str) -> None:
    with pytest.raises(ServerAddressInvalid):
        with_server(b"{}", url)


def test_an_invalid_app_is_not_packaged(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/manifest.json").write_text("{}")
    with pytest.raises(AppInvalid) as refused:
        package(tmp_path / "app", tmp_path / "out.zip")
    assert refused.value.details["faults"]
    assert not (tmp_path / "out.zip").exists()


def zipped(*entries: tuple[str, bytes], attributes: int = 0) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w") as archive:
        warnings.simplefilter("ignore")  # doubles are what one of the cases is about
        for name, data in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = attributes << 16
            archive.writestr(entry, data)
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(zipped(("../evil", b"")), "app.path", id="leaves the package"),
        pytest.param(zipped(("/etc/passwd", b"")), "app.path", id="absolute"),
        pytest.param(zipped(("assets\\x", b"")), "app.path", id="backslash"),
        pytest.param(zipped(("a", b"1"), ("a", b"2")), "app.twice", id="twice"),
        pytest.param(zipped(("assets/x", b"/etc"), attributes=0o120777), "app.link", id="link"),
        pytest.param(zipped(("app/manifest.json", b"{}")), "app.no_manifest", id="nested in a folder"),
        pytest.param(
            zipped(*((f"assets/{n}", b"") for n in range(2001))), "app.too_large", id="many entries"
        ),
    ],
)
def test_a_zip_that_is_no_app_is_refused(tmp_path: Path, data: bytes, code: str) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    assert code in {fault.code for fault in validate(tmp_path / "x.zip").faults}


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros.bin", b"0" * 30_000_000)
    files, faults = read_app(tmp_path / "x.zip")
    assert files == {}
    assert [fault.code for fault in faults] == ["app.too_large"]


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 broken", b"text"], ids=repr)
def test_what_is_no_app_at_all_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(AppUnreadable):
        validate(tmp_path / "x.zip")


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*MANIFEST, "support", "ticket_sidebar", "url", "name", "scopes"]), inner, max_size=4), max_leaves=8)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(JSON, st.binary(max_size=60))
def test_any_manifest_and_any_bytes_give_a_report(value: Any, data: bytes) -> None:
    files = {
        "manifest.json": json.dumps(value).encode(),
        "assets/a.html": data,
        "assets/a.js": data,
        "translations/en.json": data,
    }
    try:
        report = check(files)
    except FairleadError as error:
        raise AssertionError("faults are reported, not raised") from error
    assert not report.valid
    json.dumps(report.document())
    assert zip_bytes(files) == zip_bytes(dict(reversed(files.items())))
