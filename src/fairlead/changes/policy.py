"""Who must say yes: rules that approve a plan without a person, and who may approve which plan.

A rule is JSON in the project's settings. It approves a plan only when everything in it holds for
every change; what it leaves out is not checked, except risk: a rule never approves HIGH.

    {"name": "small and cheap", "max_risk": "LOW", "actions": ["create", "update"],
     "types": ["AWS::CloudWatch::*"], "max_monthly_usd": 20, "environments": ["dev"], "drift": false}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from fairlead.changes.model import Action, Change, Plan, RiskLevel
from fairlead.kernel.errors import FairleadError

_LEVELS = tuple(RiskLevel)


class PolicyInvalid(FairleadError):
    """An automatic approval rule cannot be understood."""

    code, status, retryable = "changes.policy_invalid", 422, False


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions under which a plan is approved without a person; None is "not checked"."""

    name: str
    max_risk: RiskLevel = RiskLevel.LOW
    actions: tuple[Action, ...] | None = None
    types: tuple[str, ...] | None = None  # with * and ?
    max_changes: int | None = None
    max_monthly_usd: float | None = None  # how much more a month may cost; an unknown price fails it
    environments: tuple[str, ...] | None = None
    drift: bool = False  # whether changes made outside Fairlead may be overwritten


def rules_of(data: Iterable[Mapping[str, object]]) -> tuple[Rule, ...]:
    """The rules of a project's settings. Raises PolicyInvalid, which names the rule and the field."""
    return tuple(_rule(index, item) for index, item in enumerate(data))


def _rule(index: int, item: Mapping[str, object]) -> Rule:
    place = f"auto_approval_rules.{index}"
    try:
        rule = msgspec.convert(item, Rule, strict=True)
    except msgspec.ValidationError as error:
        raise PolicyInvalid(
            f"{place}: {error}.",
            remedy="A rule has a name and any of max_risk, actions, types, max_changes, max_monthly_usd, "
            "environments and drift.",
            path=place,
        ) from error
    if rule.max_risk is RiskLevel.HIGH:
        raise PolicyInvalid(
            f"{place}.max_risk: a rule cannot approve HIGH.",
            remedy="Use LOW or MEDIUM; a person decides about HIGH.",
            path=f"{place}.max_risk",
        )
    if not rule.name.strip():
        raise PolicyInvalid(
            f"{place}.name: a rule needs a name.", remedy="Name the rule.", path=f"{place}.name"
        )
    return rule


def auto_approves(plan: Plan, rules: Sequence[Rule], environment: str | None = None) -> str | None:
    """Why the first rule that fits approves the plan; None where a person must, or nothing changes."""
    if not plan.changes:
        return None
    for rule in rules:
        if not objections(plan, rule, environment):
            return f'rule "{rule.name}"'
    return None


def objections(plan: Plan, rule: Rule, environment: str | None = None) -> tuple[str, ...]:
    """Everything for which `rule` does not approve `plan`; empty where it does."""
    found = [o for change in plan.changes for o in _about(change, rule)]
    if _LEVELS.index(plan.risk.level) > _LEVELS.index(
        min(rule.max_risk, RiskLevel.MEDIUM, key=_LEVELS.index)
    ):
        found.append(f"risk is {plan.risk.level.value}")
    if rule.max_changes is not None and len(plan.changes) > rule.max_changes:
        found.append(f"{len(plan.changes)} changes are more than {rule.max_changes}")
    if rule.environments is not None and environment not in rule.environments:
        found.append(f"environment is {environment or 'not stated'}")
    if rule.max_monthly_usd is not None:
        found.extend(_too_dear(plan, rule.max_monthly_usd))
    return tuple(found)


def _about(change: Change, rule: Rule) -> Iterable[str]:
    if rule.actions is not None and change.action not in rule.actions:
        yield f"{change.logical_id}: {change.action.value} is not among the rule's actions"
    names = {change.type, change.previous_type or change.type}
    if rule.types is not None and not all(any(fnmatchcase(name, p) for p in rule.types) for name in names):
        yield f"{change.logical_id}: {change.type} is not among the rule's types"
    if not rule.drift and any(p.drift for p in change.properties):
        yield f"{change.logical_id}: overwrites what was changed outside Fairlead"


def _too_dear(plan: Plan, limit_usd: float) -> Iterable[str]:
    cost = plan.cost
    if cost.unknown or cost.before_usd is None or cost.after_usd is None:
        yield "the cost is not known"
    elif cost.after_usd - cost.before_usd > limit_usd:
        yield f"costs {cost.after_usd - cost.before_usd:,.2f} USD a month more"


def refuses_approver(level: RiskLevel, *, author_id: str, approver_id: str) -> str | None:
    """Why this person may not approve a plan of this risk; None where they may."""
    if level is RiskLevel.HIGH and author_id == approver_id:
        return "The author of a plan with HIGH risk may not approve it: somebody else must."
    return None
