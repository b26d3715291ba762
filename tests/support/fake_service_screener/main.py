"""A small program that behaves like service-screener-v2 in the ways that were measured on it.

Takes the same options, works in the folder that it is started in, writes the same files in the same order,
and prints colours, warnings and tracebacks among its lines. `behaviour.json` beside it says what goes wrong,
and where it bears witness of what it was given and of what it did to the account.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

FORK = Path("__fork")
REGION = "ap-northeast-2"
FAILED, NOTED, PASSED = -1, 0, 1
Results = dict[str, dict[str, list[Any]]]
BEHAVIOUR: dict[str, Any] = json.loads(Path("behaviour.json").read_text())


def options() -> argparse.Namespace:
    """The real one's, with its defaults: they change the account."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--regions")
    parser.add_argument("--services", default="s3,ec2,sqs,lambda")
    parser.add_argument("--ztestmode", default=False)
    parser.add_argument("--frameworks", default="MSR,FTR,SSB,WAFS,CIS,NIST")
    parser.add_argument("--crossAccounts", default=False)
    parser.add_argument("--workerCounts", default=4)
    parser.add_argument("--beta", default=False)
    parser.add_argument("--disable-custom-pages", default=False)
    return parser.parse_args()


def witness(**told: Any) -> None:
    """One line for the test."""
    with Path(BEHAVIOUR["witness"]).open("a") as file:
        file.write(json.dumps(told) + "\n")


def change(what: str) -> None:
    """Something in the account: a queue shows it best."""
    try:
        boto3.client("sqs", REGION).create_queue(QueueName=f"ssv2-{what}")
        witness(changed=what)
    except Exception as error:
        witness(refused=what, error=str(error)[:200])


def s3(region: str) -> Results:
    """Buckets."""
    client = boto3.client("s3", region)
    found: Results = {"Macie": {}}
    for bucket in client.list_buckets()["Buckets"]:
        grants = client.get_bucket_acl(Bucket=bucket["Name"])["Grants"]
        public = any("AllUsers" in grant["Grantee"].get("URI", "") for grant in grants)
        found[f"Bucket::{bucket['Name']}"] = {
            "PublicReadAccessBlock": [FAILED, "<b>Open</b>"] if public else [PASSED, "Prohibited"],
            "MFADelete": [FAILED, "Off"],
        }
    return found


def ec2(region: str) -> Results:
    """Security groups."""
    found: Results = {}
    for group in boto3.client("ec2", region).describe_security_groups()["SecurityGroups"]:
        world = any(
            block["CidrIp"] == "0.0.0.0/0" and rule.get("FromPort") == 22
            for rule in group["IpPermissions"]
            for block in rule["IpRanges"]
        )
        verdict = [FAILED, "0.0.0.0/0:22"] if world else [PASSED, None]
        found[f"SG::{group['GroupName']}"] = {"SGSensitivePortOpenToAll": verdict}
    return found


def sqs(region: str) -> Results:
    """Queues."""
    client = boto3.client("sqs", region)
    found: Results = {}
    for url in client.list_queues().get("QueueUrls", ()):
        attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        statements = json.loads(attributes.get("Policy", '{"Statement": []}'))["Statement"]
        open_to_all = any(statement.get("Principal") == "*" for statement in statements)
        found[f"Queue::{url.rsplit('/', 1)[1]}"] = {
            "AccessPolicy": [FAILED, "Wildcard principal"] if open_to_all else [PASSED, "No policy"],
            "VisibilityTimeout": [NOTED, "Default (30s)"],
        }
    return found


SCANS: dict[str, Callable[[str], Results]] = {"s3": s3, "ec2": ec2, "sqs": sqs}


def read(service: str, region: str, odd: dict[str, Any]) -> tuple[Results, int]:
    """(results, checks that ended with an error) of one region, with all the noise of it."""
    print(f"\x1b[1;37;43mPREPARING\x1b[0m -- \x1b[1;31;43m{service.upper()}::{region}\x1b[0m")
    print(f"... \x1b[1;37;44m(Bucket)\x1b[0m - \x1b[1;37;45m{service}\x1b[0m")
    time.sleep(odd.get("after_s", 0))
    while "after" in odd and not Path(odd["after"]).exists():
        time.sleep(0.02)
    if "kill" in odd:
        os.killpg(0, signal.SIGKILL)
    if "raise" in odd:
        raise TypeError("'NoneType' object is not iterable")
    errors = int(odd.get("errors", 0))
    if "denied" in odd:
        print("Screener.py error: AccessDenied, SECRET-WORDS is not authorized")
    found = {} if "denied" in odd else SCANS[service](region) if service in SCANS else {}
    if errors:
        error = "An error occurred (AccessDenied) when calling the GetX operation: SECRET-WORDS"
        print(f"Traceback (most recent call last):\n  File x\nbotocore.exceptions.ClientError: {error}")
    print(f"\x1b[1;42mCOMPLETED\x1b[0m -- \x1b[4;30;47m{service.upper()}::{region}\x1b[0m (0.1s)")
    return found, errors


def scan(service: str, regions: list[str]) -> None:
    """One service in all regions; in a process of its own."""
    odd = BEHAVIOUR.get(service, {})
    results, errors = {}, 0
    for region in regions:
        results[region], failed = read(service, region, odd)
        errors += failed
    (FORK / f"{service}.json").write_text(odd.get("results", json.dumps(results)))
    stat = {"resources": sum(map(len, results.values())), "rules": 3, "exceptions": errors, "timespent": 0.1}
    (FORK / f"{service}.stat.json").write_text(odd.get("stat", json.dumps(stat)))
    (FORK / f"{service}.charts.json").write_text("{}")


def main() -> None:
    """One screening."""
    asked = options()
    witness(
        asked=vars(asked),
        folder=str(Path.cwd()),
        home=os.environ.get("HOME"),
        process=os.getpid(),
        names=sorted(os.environ),
        files=sorted(str(path) for path in Path().rglob("*")),
    )
    for folder in Path("adminlte/aws").iterdir():
        if folder.name.isnumeric():
            shutil.rmtree(folder)
    for path in FORK.iterdir():
        path.unlink()
    if str(asked.crossAccounts) in ("1", "true", "True"):
        change("token-version")
    own = boto3.Session(region_name="us-east-1").client("sts").get_caller_identity()["Account"]
    account = BEHAVIOUR.get("account", own)
    print(f"\n{'=' * 49}\nProcessing the following account id: {account}\n{'=' * 49}\n")
    if str(asked.ztestmode) not in ("1", "true", "True"):
        change("stack")
    if "changes" in BEHAVIOUR:
        change(BEHAVIOUR["changes"])
    print("\x1b[1;41m__!! WARNING !!__\x1b[0m [Slow] " + "x" * BEHAVIOUR.get("long_line", 0), flush=True)
    with multiprocessing.Pool(int(asked.workerCounts)) as pool:
        services = [(service, asked.regions.split(",")) for service in asked.services.split(",")]
        pool.starmap(scan, services, chunksize=BEHAVIOUR.get("chunk"))  # what crashes takes its chunk along
    if "WAFS" in asked.frameworks.split(","):
        change("workload")
    pages = Path("adminlte/aws") / account
    pages.mkdir()
    (pages / "api-full.json").write_text(json.dumps({"__metadata": {}}))


main()
