"""Credentials that STS gives out: asked for within its own limits, and still good after a restart.

MiniStack checks trust policies, external ids, session tags and session policies. What it lets pass and AWS
does not is here: durations, names, and source identities that nobody allowed.
"""

import json
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from ministack import app as ministack_app
from ministack.core import iam_evaluator, responses, router
from ministack.services import iam, sts

CHAINED_S = 3600
_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
Answer = tuple[int, dict[str, str], Any]


def install() -> None:
    """Put it before and behind MiniStack's STS. Once per process, before its state is loaded."""
    sts.get_state = lambda: {"sessions": {key: kept for key, kept in sts._sessions.items() if _lives(kept)}}
    sts.load_persisted_state = lambda state: sts._sessions.update(state.get("sessions") or {})
    answer = sts.handle_request

    async def handle_request(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> Answer:
        if ministack_app.AUTH and (refusal := _refusal(headers, body, query)):
            given: Answer = iam._error(*refusal, ns="sts")
            return given
        answered: Answer = await answer(method, path, headers, body, query)
        return answered

    sts.handle_request = handle_request
    of_key = ministack_app.set_request_account_id
    # Where nothing is checked, too, a user's key works in the user's account.
    ministack_app.set_request_account_id = lambda key: of_key(ministack_app._request_account_scope(key))


def _lives(session: Mapping[str, Any]) -> bool:
    return float(session.get("Expiration") or 0) > time.time()


def _refusal(headers: dict[str, str], body: bytes, query: dict[str, Any]) -> tuple[int, str, str] | None:
    """Status, code and message for a request to assume a role that AWS does not take."""
    asked = _parameters(headers, body, query)
    if asked.get("Action") != "AssumeRole":
        return None
    malformed = {
        "roleSessionName": (asked.get("RoleSessionName", ""), _NAME),
        "sourceIdentity": (asked.get("SourceIdentity"), _NAME),
        "externalId": (asked.get("ExternalId"), _EXTERNAL_ID),
    }
    for name, (value, form) in malformed.items():
        if value is not None and not form.fullmatch(value):
            return 400, "ValidationError", f"Value at '{name}' failed to satisfy constraint: {form.pattern}"
    key = router.extract_access_key_id(headers, query) or ""
    caller = iam_evaluator.resolve_credential(key)
    parts = asked.get("RoleArn", "").split(":", 5)
    role = iam._roles.get_scoped(parts[4], None, parts[5].rpartition("/")[2]) if len(parts) == 6 else None
    if role is None or isinstance(caller, iam_evaluator.CredentialResolutionError):
        return None  # MiniStack refuses that itself
    return _too_long(asked, role, caller) or _foreign_source(asked, role, caller)


def _too_long(asked: dict[str, str], role: dict[str, Any], caller: Any) -> tuple[int, str, str] | None:
    seconds = int(asked.get("DurationSeconds") or 3600)
    longest = int(role.get("MaxSessionDuration") or 3600)
    if caller.principal_type == "AssumedRole" and seconds > CHAINED_S:
        limit = "the 1 hour session limit for roles assumed by role chaining"
    elif seconds > longest:
        limit = "the MaxSessionDuration set for this role"
    else:
        return None
    return 400, "ValidationError", f"The requested DurationSeconds exceeds {limit}."


def _foreign_source(asked: dict[str, str], role: dict[str, Any], caller: Any) -> tuple[int, str, str] | None:
    """Naming the person behind a session takes a permission of its own in the trust policy."""
    if "SourceIdentity" not in asked:
        return None
    action = "sts:SetSourceIdentity"
    context = iam_evaluator.EvalContext(
        principal_arn=caller.principal_arn,
        principal_type=caller.principal_type,
        principal_account=caller.account_id,
        action=action,
        resource_arn=asked["RoleArn"],
        region=responses.get_region(),
        service_context={
            "sts:externalid": asked.get("ExternalId"),
            "sts:rolesessionname": asked.get("RoleSessionName"),
            "sts:sourceidentity": asked["SourceIdentity"],
        },
        principal_keys=iam_evaluator._principal_keys(caller),
    )
    trust = role.get("AssumeRolePolicyDocument", "{}")
    if iam_evaluator.evaluate_trust_policy(trust, caller.principal_arn, context):
        return None
    words = f"User: {caller.principal_arn} is not authorized to perform: {action} on resource: "
    return 403, "AccessDenied", words + asked["RoleArn"]


def _parameters(headers: dict[str, str], body: bytes, query: dict[str, Any]) -> dict[str, str]:
    """What is asked, from the query, the form or the JSON of a request."""
    target = headers.get("x-amz-target", "")
    if target:
        try:
            given = json.loads(body or b"{}")
        except ValueError:
            given = None
        plain = given if isinstance(given, dict) else {}
        return {name: str(value) for name, value in plain.items()} | {"Action": target.rpartition(".")[2]}
    form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: str(values[0]) for name, values in {**query, **form}.items() if values}
