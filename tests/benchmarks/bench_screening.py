"""Builtin screening of a seeded account with 1,000 resources in the sandbox, and of one with 10,000 volumes.

    .venv/bin/python -m tests.benchmarks screening

The sandbox shares the machine and answers one call at a time, so its own time is in the figures.
"""

import asyncio
import resource
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fairlead.support.model import Status
from fairlead.support.screenings.builtin.engine import BuiltinScreening
from fairlead.support.screenings.port import Found, Progress, Scope
from tests.sandbox_service import SandboxProcess, start_sandbox
from tests.support.reached import WORKSHOP, local_account
from tests.support.screening_accounts import REGION, Seeder
from tests.support.small_aws import ACCOUNT as SMALL
from tests.support.small_aws import small_aws

Line = tuple[str, float, str]
ACCOUNT = "111122223333"
# 1,000 resources of seven kinds, as a middling customer has them.
COUNTS = {"bucket": 60, "group": 240, "volume": 300, "user": 60, "queue": 120, "alarm": 160, "logs": 60}


def seed(sandbox: SandboxProcess) -> None:
    """1,000 resources."""
    make = Seeder(sandbox, ACCOUNT, "bench")
    for service in ("s3", "ec2", "iam", "sqs", "cloudwatch", "logs"):
        make(service)
    vpc = make("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    here = {"LocationConstraint": REGION}
    alarm = {
        "MetricName": "CPUUtilization",
        "Namespace": "AWS/EC2",
        "Statistic": "Average",
        "Period": 300,
        "EvaluationPeriods": 1,
        "Threshold": 80,
        "ComparisonOperator": "GreaterThanThreshold",
    }
    makers = {
        "bucket": lambda n: make("s3").create_bucket(Bucket=f"bench-{n}", CreateBucketConfiguration=here),
        "group": lambda n: make("ec2").create_security_group(GroupName=f"g{n}", Description="g", VpcId=vpc),
        "volume": lambda n: make("ec2").create_volume(
            AvailabilityZone=f"{REGION}a", Size=8, Encrypted=n % 2 == 0
        ),
        "user": lambda n: make("iam").create_user(UserName=f"u{n}"),
        "queue": lambda n: make("sqs").create_queue(QueueName=f"q{n}"),
        "alarm": lambda n: make("cloudwatch").put_metric_alarm(AlarmName=f"a{n}", **alarm),
        "logs": lambda n: make("logs").create_log_group(logGroupName=f"l{n}"),
    }
    with ThreadPoolExecutor(8) as pool:
        for kind, count in COUNTS.items():
            list(pool.map(makers[kind], range(count)))


async def _screen(
    url: str, account: str, services: tuple[str, ...] = ()
) -> tuple[float, float, int, int, int]:
    """(seconds, seconds until the first finding, resources, findings, failures)."""
    engine = BuiltinScreening(local_account(url, account), WORKSHOP)
    began = time.perf_counter()
    plan = await engine.plan(Scope(regions=(REGION,), services=services))
    first, resources, findings, failed = 0.0, 0, 0, 0
    async for event in engine.run(plan, deadline_s=300):
        if isinstance(event, Found):
            first = first or time.perf_counter() - began
            findings += len(event.findings)
            failed += sum(finding.status is Status.FAIL for finding in event.findings)
        elif isinstance(event, Progress):
            resources = event.resources
    return time.perf_counter() - began, first, resources, findings, failed


def run() -> list[Line]:
    """Figures of both accounts."""
    with (
        tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder,
        start_sandbox(Path(folder)) as sandbox,
    ):
        seed(sandbox)
        before = time.process_time()
        seconds, first, resources, findings, failed = asyncio.run(_screen(sandbox.endpoint_url, ACCOUNT))
        cpu = time.process_time() - before
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with small_aws(volumes=10_000) as aws:
        before = time.process_time()
        large, _, volumes, _, _ = asyncio.run(_screen(aws.url, SMALL, ("ebs",)))
        large_cpu = time.process_time() - before
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    return [
        ("screening_1000_s", seconds, "s"),
        ("screening_1000_cpu_s", cpu, "s"),
        ("screening_1000_first_finding_s", first, "s"),
        ("screening_1000_resources", resources, "count"),
        ("screening_1000_findings", findings, "count"),
        ("screening_1000_failed", failed, "count"),
        ("screening_10000_volumes_s", large, "s"),
        ("screening_10000_volumes_cpu_s_with_server", large_cpu, "s"),
        ("screening_10000_volumes_resources", volumes, "count"),
        ("screening_10000_volumes_memory_grown_mib", grown / 1024, "MiB"),
    ]
