"""Lambda: runtimes, who may call a function, and what lies in its environment. Values are dropped at once."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.kernel.telemetry import is_secret_name
from fairlead.support.collect import Reads, details
from fairlead.support.hazards import OLD_RUNTIMES
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless
from fairlead.support.screenings.builtin.policies import open_statements

FUNCTION = "AWS::Lambda::Function"


async def functions(reads: Reads) -> AsyncIterator[Item]:
    """Functions with their policies and addresses; of environment variables only the names."""

    async def look(found: dict[str, Any]) -> Item:
        name = found["FunctionName"]
        variables = (found.pop("Environment", None) or {}).get("Variables") or {}
        facts = {
            **found,
            "VariableNames": sorted(variables),
            "Policy": await reads.fact(
                "lambda",
                "get_policy",
                lambda a: a["Policy"],
                absent=("ResourceNotFoundException",),
                FunctionName=name,
            ),
            "Urls": await reads.all_of(
                "lambda", "list_function_url_configs", "FunctionUrlConfigs", FunctionName=name
            ),
        }
        return item(reads, FUNCTION, found["FunctionArn"], facts, name=name)

    async for found in details(reads.pages("lambda", "list_functions", "Functions"), look):
        yield found


def runtime(function: Item) -> Verdict:
    """A runtime that gets security updates. Images bring their own."""
    if function.optional("PackageType") == "Image":
        return None
    used = function["Runtime"]
    return unless(used in OLD_RUNTIMES, f"It runs on {used}.")


def public_policy(function: Item) -> Verdict:
    """Not everyone may call it."""
    opened = open_statements(function["Policy"])
    return unless(bool(opened), f"Everyone may call it: {', '.join(opened)}.")


def open_url(function: Item) -> Verdict:
    """An address on the internet asks who is calling."""
    opened = [url for url in function["Urls"] if url.get("AuthType") == "NONE"]
    return unless(bool(opened), "Its URL asks nobody who they are.")


def secret_variables(function: Item) -> Verdict:
    """No variable is named like a secret, unless it only says where the secret is."""
    names = [
        name
        for name in function["VariableNames"]
        if is_secret_name(name) and not name.lower().endswith(("_arn", "_name", "_id", "_url", "_path"))
    ]
    return unless(bool(names), f"Named like secrets: {', '.join(names)}.")


def dead_letters(function: Item) -> Verdict:
    """Failed asynchronous calls are kept somewhere."""
    return unless(
        not (function.optional("DeadLetterConfig") or {}).get("TargetArn"), "It has no dead-letter target."
    )


SERVICE = Service(
    name="lambda",
    reference="https://docs.aws.amazon.com/lambda/latest/dg/lambda-security.html",
    sources=(
        Source(
            kind=FUNCTION,
            collect=functions,
            checks=(
                Check(
                    id="lambda.function_runtime",
                    title="Function runs on a runtime without updates",
                    severity=Severity.MEDIUM,
                    judge=runtime,
                    why="Holes in it stay open, and one day it can no longer be changed.",
                    fix="Move it to a supported runtime.",
                    pillars=("security", "operational-excellence"),
                ),
                Check(
                    id="lambda.function_public_policy",
                    title="Everyone may call the function",
                    severity=Severity.CRITICAL,
                    judge=public_policy,
                    why="Anybody can run it, with its role and at your cost.",
                    fix="Name the callers in the policy, with SourceArn or SourceAccount for services.",
                ),
                Check(
                    id="lambda.function_url",
                    title="Function URL asks nobody who they are",
                    severity=Severity.HIGH,
                    judge=open_url,
                    why="The address is on the internet and runs the function for anybody.",
                    fix="Set AuthType to AWS_IAM, or put it behind an API with authorisation.",
                ),
                Check(
                    id="lambda.function_secret_variables",
                    title="Function seems to hold secrets in its environment",
                    severity=Severity.MEDIUM,
                    judge=secret_variables,
                    why="Everyone who may look at the function sees its variables.",
                    fix="Keep secrets in Secrets Manager or Parameter Store and pass only their names.",
                ),
                Check(
                    id="lambda.function_dead_letters",
                    title="Function drops failed events",
                    severity=Severity.INFORMATIONAL,
                    judge=dead_letters,
                    why="An event whose retries failed is gone without a trace.",
                    fix=(
                        "Set a dead-letter queue or an on-failure destination for functions "
                        "that are called by events."
                    ),
                    pillars=("reliability",),
                ),
            ),
        ),
    ),
)
