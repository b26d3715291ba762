"""Stands in for an interpreter that runs Prowler's driver: says what `SCRIPT` in its environment wants.

Hanging, dying and talking nonsense cannot be had from the real one on demand. A script is JSON: a list of
lines (a string as it is, everything else as JSON) and of what to do between them:
{"do": "hang" | "die" | "children" | "long line"}.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

CATALOGUE = [
    ["ec2_one", "ec2"],
    ["iam_one", "iam"],
    ["s3_one", "s3"],
    ["s3_two", "s3"],
    ["sqs_one", "sqs"],
]


def say(line: Any) -> None:
    sys.stdout.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    sys.stdout.flush()


def check(check: str, *findings: dict[str, Any], last: bool = True, **members: Any) -> dict[str, Any]:
    """A line of the driver."""
    return {
        "kind": "check",
        "id": check,
        "title": f"Title of {check}",
        "severity": "high",
        "type": "AwsThing",
        "risk": "It is **bad** for `you`.",
        "fix": "Repair it.",
        "links": ["https://hub.prowler.com/x", "http://plain.example", "https://hub.prowler.com/x"],
        "categories": [],
        "compliance": {},
        "findings": list(findings),
        "last": last,
        **members,
    }


def finding(uid: str = "arn:aws:s3:::web", **members: Any) -> dict[str, Any]:
    """A finding in it."""
    return {
        "status": "FAIL",
        "detail": "seen",
        "uid": uid,
        "name": uid.split(":")[-1],
        "region": "ap-northeast-2",
        "tags": {"Owner": "kim"},
        **members,
    }


def main() -> None:
    asked = json.loads(sys.stdin.buffer.readline())
    if asked["do"] == "catalogue":
        say(
            json.loads(os.environ.get("CATALOGUE", "null"))
            or {"kind": "catalogue", "version": "1", "checks": CATALOGUE}
        )
        return
    for line in json.loads(os.environ["SCRIPT"]):
        act = line.get("do") if isinstance(line, dict) else None
        if act == "hang":
            threading.Event().wait()
        elif act == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif act == "children":
            subprocess.Popen(["sleep", "600"])
        elif act == "long line":
            say("x" * 9_000_000)
        else:
            say(line)


if __name__ == "__main__":
    main()
