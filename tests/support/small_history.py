"""A very small AWS with a past: CloudTrail's event history of any age, and Trusted Advisor, page by page.

Speaks STS GetCallerIdentity, EC2 DescribeRegions, CloudTrail LookupEvents and Support; the rest is denied.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

ACCOUNT = "123412341234"
REGIONS = ("ap-northeast-2", "us-east-1")
CHECKS = 150
_DENIED = "<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>"


@dataclass
class Past:
    """What happened, and what was asked about it."""

    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by region
    support_plan: bool = True
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)  # region, operation, body

    def happened(self, region: str, name: str, source: str, at: datetime, **more: Any) -> None:
        """Add an event to the history of `region`."""
        here = self.events.setdefault(region, [])
        record = more.pop("record", {"sourceIPAddress": "203.0.113.7", "userIdentity": {"type": "IAMUser"}})
        text = record if isinstance(record, str) else json.dumps(record)
        here.append(
            {
                "EventId": f"{region}-{len(here)}",
                "EventName": name,
                "EventSource": source,
                "EventTime": at.timestamp(),
                "Username": "kim",
                "CloudTrailEvent": text,
                **more,
            }
        )

    def answer(self, region: str, operation: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """What AWS would say."""
        self.asked.append((region, operation, body))
        if operation == "LookupEvents":
            return 200, self._looked_up(region, body)
        if not self.support_plan:
            return 400, {"__type": "SubscriptionRequiredException"}
        if operation == "DescribeTrustedAdvisorChecks":
            korean = "검사" if body["language"] == "ko" else "Check"
            return 200, {"checks": [_check(number, korean) for number in range(CHECKS)]}
        if operation == "DescribeTrustedAdvisorCheckSummaries":
            return 200, {"summaries": [_summary(uid) for uid in body["checkIds"]]}
        return 400, {"__type": "AccessDeniedException"}

    def _looked_up(self, region: str, body: dict[str, Any]) -> dict[str, Any]:
        name = body["LookupAttributes"][0]["AttributeValue"]
        found = [
            event
            for event in self.events.get(region, ())
            if event["EventName"] == name and body["StartTime"] <= event["EventTime"] <= body["EndTime"]
        ]
        first = int(body.get("NextToken", "0"))
        last = first + body["MaxResults"]
        more = {"NextToken": str(last)} if last < len(found) else {}
        return {"Events": found[first:last], **more}


def _check(number: int, word: str) -> dict[str, Any]:
    category = ("security", "cost_optimizing", "fault_tolerance")[number % 3]
    return {
        "id": f"c{number}",
        "name": f"{word} {number}",
        "category": category,
        "description": "",
        "metadata": [],
    }


def _summary(uid: str) -> dict[str, Any]:
    number = int(uid[1:])
    status = "error" if number == 0 else "warning" if number < 3 else "ok"
    counts = {
        "resourcesProcessed": 9,
        "resourcesFlagged": 2 * (status != "ok"),
        "resourcesIgnored": 0,
        "resourcesSuppressed": 0,
    }
    return {
        "checkId": uid,
        "timestamp": "2026-10-31T00:00:00Z",
        "status": status,
        "resourcesSummary": counts,
        "categorySpecificSummary": {},
    }


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_GET(self) -> None:
        self._say(403, _DENIED)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        target = self.headers.get("X-Amz-Target", "")
        if target:
            scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/", self.headers.get("Authorization", ""))
            with self.server.lock:
                status, answer = self.server.past.answer(
                    scope[1] if scope else "", target.rpartition(".")[2], json.loads(body)
                )
            self._say(status, json.dumps(answer), "application/x-amz-json-1.1")
            return
        action = parse_qs(body.decode()).get("Action", ["?"])[0]
        if action == "GetCallerIdentity":
            inside = f"<Arn>arn:aws:iam::{ACCOUNT}:root</Arn><UserId>u</UserId><Account>{ACCOUNT}</Account>"
            self._say(200, f"<R><GetCallerIdentityResult>{inside}</GetCallerIdentityResult></R>")
        elif action == "DescribeRegions":
            items = "".join(
                f"<item><regionName>{name}</regionName><optInStatus>opt-in-not-required</optInStatus></item>"
                for name in REGIONS
            )
            self._say(200, f"<R><regionInfo>{items}</regionInfo></R>")
        else:
            self._say(403, _DENIED)

    def _say(self, status: int, text: str, kind: str = "text/xml") -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, past: Past) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.past, self.lock = past, threading.Lock()


@contextmanager
def small_history(past: Past) -> Iterator[str]:
    """The address of an AWS with that past, on a free port."""
    server = _Server(past)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
