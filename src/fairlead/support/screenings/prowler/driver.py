"""Runs inside Prowler's own environment, never in ours: Prowler as JSON lines on standard output.

One request comes as a line on standard input; while that stays open, the driver works. Lines out, by `kind`:

    catalogue  version, checks: [[id, service], …]     what there is, without starting Prowler
    began      account, checks: how many               after Prowler said whose credentials these are
    check      id, …, findings: […]                    one check, several lines where it found much
    gap        service, region, error, code, call      something that Prowler could not read
    skipped    check                                   planned, and Prowler never ended it
    account    account                                 the credentials are another account's; nothing was read
    failed     error                                   nothing could be begun
    end                                                all checks are behind

Everything that Prowler prints goes to standard error. Of AWS's errors only codes and names of calls are told:
their words may hold what does not belong in a report. Every call passes the guard.
"""

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, BinaryIO

BATCH = 200  # findings in one line
WORST = {"PASS": 0, "MUTED": 0, "MANUAL": 1, "FAIL": 2}
# Checks that read contents, code or variables in search of secrets, or ask a third party about addresses.
NEVER = re.compile(
    r"_no_secrets|_find_secrets|_secrets_user_data|_document_secrets|_sensitive_credentials|_shodan"
)
HEAVY = (
    "threat-detection"  # reads through the events of all regions; Prowler itself runs these only when asked
)
# Frameworks that findings are mapped to. Loading all 44 takes seconds.
FRAMEWORKS = (
    "aws_foundational_security_best_practices_aws",
    "aws_well_architected_framework_reliability_pillar_aws",
    "aws_well_architected_framework_security_pillar_aws",
    "cis_3.0_aws",
    "cis_7.0_aws",
    "iso27001_2022_aws",
    "kisa_isms_p_2023_aws",
)
_LOGGED = re.compile(
    r"^(?:(?P<place>[\w-]+) -- )?(?P<error>\w+)\[\d+\]"
    r"(?:: An error occurred \((?P<code>[\w.:-]+)\) when calling the (?P<call>\w+) operation)?"
)
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
# What is not there is an answer, and what we keep back our own choice: no gaps of the account.
_ABSENT = re.compile(r"NotFound|NoSuch|NotExist|DoesNotExist|^404$|^WithheldByFairlead$")


class Lines:
    """Standard output for our lines alone; whatever else is printed goes to standard error."""

    def __init__(self) -> None:
        self._out: BinaryIO = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._writing = threading.Lock()  # Prowler logs from its threads

    def say(self, kind: str, **members: Any) -> None:
        """One line."""
        line = json.dumps({"kind": kind, **members}, default=str).encode() + b"\n"
        with self._writing:
            self._out.write(line)
            self._out.flush()


class Gaps(logging.Handler):
    """Tells each error that Prowler logs about a service once; it goes on without what it could not read."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(logging.ERROR)
        self._lines = lines
        self._told: set[tuple[str, ...]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Code, call and place of an error."""
        found = _LOGGED.match(record.getMessage())
        if found is None or _ABSENT.search(found["code"] or ""):
            return
        place = found["place"] or ""
        region = place if _REGION.fullmatch(place) else "global"
        folders = Path(record.pathname).parts
        service = folders[folders.index("services") + 1] if "services" in folders else place.split("_")[0]
        gap = (service, region, found["error"], found["code"] or "", found["call"] or "")
        if service and gap not in self._told:
            self._told.add(gap)
            self._lines.say(
                "gap", **dict(zip(("service", "region", "error", "code", "call"), gap, strict=True))
            )


def catalogue() -> Iterator[tuple[str, str]]:
    """(id, service) of every check that may run, from Prowler's files."""
    spec = find_spec("prowler")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("prowler")
    services = Path(spec.submodule_search_locations[0]) / "providers" / "aws" / "services"
    for path in sorted(services.glob("*/*/*.metadata.json")):
        about = json.loads(path.read_bytes())
        if not NEVER.search(about["CheckID"]) and HEAVY not in about["Categories"]:
            yield about["CheckID"], path.parts[-3]


def scan(lines: Lines, request: dict[str, Any]) -> None:
    """Carry out `request`: account, regions, checks, local (whether it is a local AWS)."""
    from prowler.lib.scan import scan as scans
    from prowler.providers.aws.aws_provider import AwsProvider

    logging.getLogger().addHandler(Gaps(lines))  # noqa: TID251 - where Prowler logs
    provider = AwsProvider(
        regions=set(request["regions"]),
        retries_max_attempts=request["attempts"],
        mutelist_content={"Mutelist": {}},
    )
    account = str(provider.identity.account)
    if account != request["account"]:
        lines.say("account", account=account)
        return
    session = provider.session.current_session
    _guarded(session)
    if request["local"]:
        session.events.register(
            "before-sign.s3-control.*", lambda request, **_: _without_account_in_host(request, account)
        )
    scans.Compliance = _Frameworks
    work = scans.Scan(provider, checks=request["checks"])
    planned, behind = set(work.checks_to_execute), set[str]()
    lines.say("began", account=account, checks=len(planned))
    for _, found in work.scan():
        for check in work.get_completed_checks() - behind:
            for line in told(check, work.bulk_checks_metadata[check], found):
                lines.say("check", **line)
        behind |= work.get_completed_checks()
    for check in sorted(planned - behind):
        lines.say("skipped", check=check)
    lines.say("end")


def _guarded(session: Any) -> None:
    """Watch the calls of `session`. The guard lies beside us, and is no module of this environment."""
    spec = spec_from_file_location("guard", Path(__file__).parents[1] / "guard.py")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("guard")
    guarding = module_from_spec(spec)
    spec.loader.exec_module(guarding)
    guarding.guard(session)


class _Frameworks:
    """Stands where Prowler reads all of its frameworks."""

    @staticmethod
    def get_bulk(provider: str) -> dict[str, Any]:
        """FRAMEWORKS."""
        import prowler.compliance
        from prowler.lib.check.compliance_models import load_compliance_framework

        folder = Path(prowler.compliance.__path__[0]) / provider
        return {name: load_compliance_framework(str(folder / f"{name}.json")) for name in FRAMEWORKS}


def _without_account_in_host(request: Any, account: str) -> None:
    """A local AWS has one address for everything; S3 Control puts the account before it."""
    request.url = request.url.replace(f"//{account}.", "//", 1)


def told(check: str, about: Any, found: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """A check and its findings as lines; of several about one resource the worst."""
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    compliance: dict[str, list[str]] = {}
    for finding in found:
        compliance = finding.compliance
        one = {
            "status": str(getattr(finding.status, "value", finding.status)),
            "detail": finding.status_extended,
            "uid": finding.resource_uid,
            "name": finding.resource_name,
            "region": finding.region,
            "tags": finding.resource_tags,
        }
        key = (one["region"], one["uid"])
        if key not in kept or WORST.get(one["status"], 0) > WORST.get(kept[key]["status"], 0):
            kept[key] = one
    findings = list(kept.values())
    head = {
        "id": check,
        "title": about.CheckTitle,
        "severity": str(getattr(about.Severity, "value", about.Severity)),
        "type": about.ResourceType,
        "risk": about.Risk or about.Description,
        "fix": about.Remediation.Recommendation.Text,
        "links": [about.Remediation.Recommendation.Url, *about.AdditionalURLs],
        "categories": list(about.Categories),
        "compliance": compliance,
    }
    for first in range(0, max(len(findings), 1), BATCH):
        yield {**head, "findings": findings[first : first + BATCH], "last": first + BATCH >= len(findings)}


def _end_with_parent() -> None:
    """Whoever started us holds our standard input: where that ends, so do we."""
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(1)


def main() -> None:
    """One request."""
    lines = Lines()
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        if request["do"] == "catalogue":
            lines.say("catalogue", version=version("prowler"), checks=list(catalogue()))
        else:
            scan(lines, request)
    except BaseException as error:  # noqa: BLE001 - Prowler leaves with SystemExit where it cannot begin
        lines.say("failed", error=type(error).__name__)
    sys.stderr.flush()
    os._exit(0)  # threads of Prowler that still wait for AWS are not waited for


if __name__ == "__main__":
    main()
