"""The door: problem documents, limits, headers, request ids, and nothing secret in logs or answers."""

import json
import socket
from typing import Any

import pytest
import structlog
from fastapi import APIRouter
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from fairlead.api.app import build_app
from fairlead.kernel import telemetry
from fairlead.kernel.errors import InvalidInput
from fairlead.kernel.http import decode_cursor, encode_cursor, if_match
from fairlead.kernel.projects.model import Role
from tests.api.conftest import KEY, PASSWORD, World, problem

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"id": ', "body"),
        (b"", "body"),
        (b"\xff\xfe", ""),
        (b"[" * 50_000, ""),
        (b'{"id": 1' + b"0" * 5_000 + b"}", ""),
        (b'{"id": "a", "id\\ud800": 1}', "body"),
        (b'{"name": "\\ud800", "id": "shop"}', "name"),
        (b"null", "body"),
        (b"[]", "body"),
        (b'"id"', "body"),
    ],
    ids=["cut", "empty", "not-utf8", "deep", "huge-number", "odd-key", "surrogate", "null", "list", "text"],
)
def test_a_body_that_is_no_project_is_refused(shared: World, ana: str, content: bytes, place: str) -> None:
    answer = shared.call(ana, "POST", "/projects", content=content, headers=JSON)
    body = problem(answer, 422, "input.invalid")
    assert body["remedy"]
    if place:
        assert place in {fault["field"] for fault in body["details"]["faults"]}


@pytest.mark.parametrize(
    "path",
    [
        "/projects/%00",
        "/projects/a%00b",
        "/projects/%ED%A0%80",
        "/projects/'; drop table users",
        "/projects/" + "x" * 5000,
        "/runs/%00",
        "/runs/%F0%9F%8E%A3",
        "/runs/" + "9" * 5000,
        "/tokens/%00",
    ],
)
def test_odd_names_in_addresses_are_not_found_or_refused(shared: World, ana: str, path: str) -> None:
    method = "DELETE" if path.startswith("/tokens") else "GET"
    answer = shared.call(ana, method, path)
    assert answer.status_code in (403, 404, 405)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)
def test_odd_names_reach_no_database(world: World) -> None:
    admin = world.person("root", is_admin=True)
    world.project("shop", {"root": Role.OWNER})
    member = "/projects/shop/members/a%00b"
    problem(world.call(admin, "PUT", member, json={"role": "viewer"}), 404, "users.not_found")
    problem(world.call(admin, "DELETE", member), 404, "members.not_found")
    problem(world.call(admin, "GET", "/runs/a%00b"), 404, "run.not_found")
    problem(world.call(admin, "DELETE", "/tokens/a%00b"), 404, "tokens.not_found")
    odd = {"username": "a\x00\x1bb", "password": "a\x00b"}
    problem(world.call(None, "POST", "/sessions", json=odd), 401, "auth.invalid_credentials")
    odd = {"refresh_token": "flr_\x00"}
    problem(world.call(None, "POST", "/sessions/refresh", json=odd), 401, "auth.unauthenticated")
    body = {"id": "odd", "name": "x", "settings": {"auto_approval_rules": [{"a": "nul\x00"}]}}
    assert world.call(admin, "POST", "/projects", json=body).status_code == 201
    assert world.call(admin, "GET", "/projects/odd").json()["settings"] == {
        "region": None,
        "account_id": None,
        "environment": None,
        "state_prefix": None,
        "approval_deadline_s": None,
        "auto_approval_rules": [{"a": "nul\x00"}],
        "notifications": {"webhook_url": None, "events": []},
    }
    problem(world.call(admin, "GET", "/users/%00"), 404, "users.not_found")
    problem(world.call(admin, "PUT", "/users/a%00b/password", json={}), 404, "users.not_found")


def test_an_unknown_address_and_an_unknown_method_say_so(shared: World) -> None:
    problem(shared.call(None, "GET", "/nothing/here"), 404, "http.not_found")
    answer = shared.call(None, "DELETE", "/version")
    problem(answer, 405, "http.method_not_allowed")
    assert answer.headers["allow"] == "GET"


def test_a_body_over_the_limit_is_refused_before_it_is_read(shared: World, ana: str) -> None:
    host, port = shared.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        head = f"POST /projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ana}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 999999999\r\n\r\n"
        raw.sendall(head.encode())
        answer = b""
        while chunk := raw.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["code"] == "http.body_too_large"


def test_a_chunked_body_is_counted_while_it_comes(shared: World, ana: str) -> None:
    def endless(size: int) -> Any:
        yield b'{"name": "'
        for _ in range(size):
            yield b"x" * 1000
        yield b'", "id": "shop"}'

    too_long = shared.call(ana, "POST", "/projects", content=endless(300), headers=JSON)
    assert problem(too_long, 413, "http.body_too_large")["details"] == {"limit_bytes": 200_000}
    fits = shared.call(ana, "POST", "/projects", content=endless(100), headers=JSON)
    assert problem(fits, 422, "input.invalid")["details"]["faults"][0]["field"] == "name"


def test_who_shows_no_credentials_may_say_less(shared: World) -> None:
    long = {"username": "a", "password": "x" * 70_000}
    answer = shared.call(None, "POST", "/sessions", json=long)
    assert problem(answer, 413, "http.body_too_large")["details"] == {"limit_bytes": 65_536}


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "application/yaml", ""]
)
def test_bodies_are_json(shared: World, ana: str, media_type: str) -> None:
    answer = shared.call(
        ana, "POST", "/projects", content=b'{"id":"shop"}', headers={"Content-Type": media_type}
    )
    problem(answer, 415, "http.unsupported_media_type")


def test_json_with_a_charset_and_vendor_json_are_json(shared: World, ana: str) -> None:
    for media_type in ("application/json; charset=utf-8", "application/vnd.x+json"):
        answer = shared.call(ana, "POST", "/projects", content=b"{}", headers={"Content-Type": media_type})
        problem(answer, 422, "input.invalid")


def test_every_answer_has_a_request_id_and_a_sane_one_is_kept(shared: World) -> None:
    kept = shared.call(None, "GET", "/version", headers={"X-Request-ID": "trace-1.a_b"})
    assert kept.headers["x-request-id"] == "trace-1.a_b"
    for bad in ("a b", "x" * 65, "<script>"):
        answer = shared.call(None, "GET", "/version", headers={"X-Request-ID": bad})
        assert answer.headers["x-request-id"] != bad


def test_every_answer_forbids_sniffing_framing_and_caching(shared: World) -> None:
    for path in ("/version", "/nothing"):
        headers = shared.call(None, "GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_a_bug_answers_without_its_text_and_is_logged_with_its_trace(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    router = APIRouter()

    @router.get("/bug")
    def bug() -> None:
        raise RuntimeError("the cellar key is under the mat")

    app = build_app(database=world.database, signing_key=KEY, runs=world.runs, routers=[router])
    telemetry.configure(form="json")
    try:
        answer = TestClient(app).get("/bug?password=hunter2")
    finally:
        structlog.reset_defaults()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    body = problem(answer, 500, "internal")
    assert "cellar" not in answer.text
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (failed,) = [line for line in lines if line["event"] == "http.failed"]
    assert "cellar key" in failed["exception"]
    assert failed["request_id"] == body["request_id"]
    assert not any("hunter2" in json.dumps(line) for line in lines)


def test_no_credential_shows_in_logs_answers_or_the_database_file(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.configure(level="debug", form="json")
    answers: list[str] = []

    def say(token: str | None, method: str, path: str, **more: Any) -> Any:
        answer = world.call(token, method, path, **more)
        answers.append(answer.text)
        return answer.json() if answer.content else None

    try:
        admin = world.person("root", is_admin=True)
        made = say(admin, "POST", "/users", json={"username": "ana"})
        generated = made["generated_password"]
        login = say(None, "POST", "/sessions", json={"username": "ana", "password": generated})
        ana, shown_once = login["access_token"], {generated, login["access_token"], login["refresh_token"]}
        token = say(ana, "POST", "/tokens", json={"name": "ci"})["token"]
        shown_once.add(token)
        giving_them = len(answers)
        say(None, "POST", "/sessions", json={"username": generated, "password": generated})
        say(None, "POST", "/sessions", json={"username": "ana", "password": generated, "extra": generated})
        say(admin, "POST", "/users", json={"username": generated, "password": [generated]})
        change = {"current_password": generated, "new_password": generated[:3]}
        say(ana, "PUT", "/users/me/password", json=change)
        for path in ("/users/me", "/tokens", f"/projects?cursor={token}", f"/nothing?token={token}"):
            say(ana, "GET", path)
        say(token, "GET", "/projects")
        say(None, "GET", "/metrics")
        say(admin, "GET", "/users")
        say("fl_" + token, "GET", "/users/me")
        world.project("shop", {"ana": Role.OWNER})
        say(ana, "GET", "/projects/shop/audit")
    except json.JSONDecodeError:
        pass
    finally:
        structlog.reset_defaults()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    output = capsys.readouterr()
    logs = output.err + output.out
    assert logs.count("http.request") > 8
    file = world.database.path
    assert file is not None
    stored = file.read_bytes() + file.with_name(file.name + "-wal").read_bytes()
    for secret in shown_once:
        assert secret not in logs
        assert not any(secret in text for text in answers[giving_them:])
        assert secret.encode() not in stored
    assert PASSWORD.encode() not in stored


@given(st.text(max_size=60))
def test_a_cursor_is_ours_or_refused(text: str) -> None:
    try:
        position = decode_cursor(text)
    except InvalidInput:
        pass
    else:
        assert position.isprintable()
        assert decode_cursor(encode_cursor(position)) == position


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60))
def test_a_cursor_gives_back_what_went_in(position: str) -> None:
    assert decode_cursor(encode_cursor(position)) == position


@pytest.mark.parametrize(
    ("header", "version"), [(None, None), ("*", None), ('"3"', 3), ('W/"12"', 12), ("7", 7)], ids=str
)
def test_if_match_names_a_version(header: str | None, version: int | None) -> None:
    assert if_match(header) == version


@pytest.mark.parametrize("header", ["", '""', '"x"', '"-1"', '"1", "2"', '"٣"', '"99999999999"'])
def test_another_if_match_is_refused(header: str) -> None:
    with pytest.raises(InvalidInput, match="If-Match"):
        if_match(header)
