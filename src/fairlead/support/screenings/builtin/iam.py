"""IAM: the root user, people, keys, policies and who may become a role."""

from collections.abc import AsyncIterator
from typing import Any

from fairlead.support.collect import Reads, Unreadable, details
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import (
    GLOBAL,
    PASSED,
    Check,
    Failed,
    Item,
    Service,
    Source,
    Verdict,
    item,
    unless,
)
from fairlead.support.screenings.builtin.policies import (
    is_tied,
    listed,
    open_statements,
    principals,
    statements,
)

ACCOUNT, USER, POLICY, ROLE = "AWS::Account", "AWS::IAM::User", "AWS::IAM::ManagedPolicy", "AWS::IAM::Role"
CERTIFICATE = "AWS::IAM::ServerCertificate"
MAX_KEY_DAYS, MAX_IDLE_DAYS = 90, 45


async def account(reads: Reads) -> AsyncIterator[Item]:
    """What IAM says about the account as a whole."""
    support = f"arn:{reads.partition}:iam::aws:policy/AWSSupportAccess"
    facts = {
        "Summary": await reads.fact("iam", "get_account_summary", lambda a: a["SummaryMap"]),
        "PasswordPolicy": await reads.fact(
            "iam", "get_account_password_policy", lambda a: a["PasswordPolicy"], absent=("NoSuchEntity",)
        ),
        "SupportRoles": await reads.all_of(
            "iam", "list_entities_for_policy", "PolicyRoles", PolicyArn=support, EntityFilter="Role"
        ),
    }
    yield item(reads, ACCOUNT, reads.arn("iam", "root", region=""), facts, name=reads.account, region=GLOBAL)


async def users(reads: Reads) -> AsyncIterator[Item]:
    """Users with their password, MFA devices, keys and policies."""

    async def look(user: dict[str, Any]) -> Item:
        name = user["UserName"]
        keys = await reads.all_of("iam", "list_access_keys", "AccessKeyMetadata", UserName=name)
        facts = {
            **user,
            "Password": await reads.fact(
                "iam",
                "get_login_profile",
                lambda a: a["LoginProfile"],
                absent=("NoSuchEntity",),
                UserName=name,
            ),
            "MfaDevices": await reads.all_of("iam", "list_mfa_devices", "MFADevices", UserName=name),
            "Keys": keys if isinstance(keys, Unreadable) else [await _used(reads, key) for key in keys],
            "Inline": await reads.all_of("iam", "list_user_policies", "PolicyNames", UserName=name),
            "Attached": await reads.all_of(
                "iam", "list_attached_user_policies", "AttachedPolicies", UserName=name
            ),
        }
        return item(reads, USER, user["Arn"], facts, name=name, region=GLOBAL)

    async for found in details(reads.pages("iam", "list_users", "Users"), look):
        yield found


async def _used(reads: Reads, key: dict[str, Any]) -> dict[str, Any]:
    """A key with its last use; its id is cut, because reports are passed on."""
    uid = key["AccessKeyId"]
    used = await reads.fact(
        "iam",
        "get_access_key_last_used",
        lambda a: a["AccessKeyLastUsed"].get("LastUsedDate"),
        AccessKeyId=uid,
    )
    return {"Id": f"…{uid[-4:]}", "Status": key["Status"], "CreateDate": key["CreateDate"], "LastUsed": used}


async def policies(reads: Reads) -> AsyncIterator[Item]:
    """Policies of the customer that are attached to something."""

    async def look(policy: dict[str, Any]) -> Item:
        document = await reads.fact(
            "iam",
            "get_policy_version",
            lambda a: a["PolicyVersion"]["Document"],
            PolicyArn=policy["Arn"],
            VersionId=policy["DefaultVersionId"],
        )
        facts = {**policy, "Document": document}
        return item(reads, POLICY, policy["Arn"], facts, name=policy["PolicyName"], region=GLOBAL)

    own = reads.pages("iam", "list_policies", "Policies", Scope="Local", OnlyAttached=True)
    async for found in details(own, look):
        yield found


async def roles(reads: Reads) -> AsyncIterator[Item]:
    """Roles except those that AWS services made for themselves."""
    async for found in reads.pages("iam", "list_roles", "Roles"):
        if not str(found.get("Path", "/")).startswith("/aws-service-role/"):
            facts = {**found, "Account": reads.account}
            yield item(reads, ROLE, found["Arn"], facts, name=found["RoleName"], region=GLOBAL)


async def certificates(reads: Reads) -> AsyncIterator[Item]:
    """Certificates that were uploaded to IAM."""
    async for found in reads.pages("iam", "list_server_certificates", "ServerCertificateMetadataList"):
        yield item(
            reads, CERTIFICATE, found["Arn"], found, name=found["ServerCertificateName"], region=GLOBAL
        )


def _summary(account: Item, name: str) -> int:
    return int(Item(resource=account.resource, facts=account["Summary"], seen_at=account.seen_at)[name])


def root_mfa(account: Item) -> Verdict:
    """The root user has MFA."""
    return unless(_summary(account, "AccountMFAEnabled") == 0, "The root user has no MFA device.")


def root_keys(account: Item) -> Verdict:
    """The root user has no keys."""
    return unless(_summary(account, "AccountAccessKeysPresent") > 0, "The root user has access keys.")


def password_length(account: Item) -> Verdict:
    """At least 14 characters."""
    length = (account["PasswordPolicy"] or {}).get("MinimumPasswordLength", 0)
    return unless(
        length < 14, f"Passwords need {length} characters." if length else "There is no password policy."
    )


def password_reuse(account: Item) -> Verdict:
    """The last 24 passwords are refused."""
    kept = (account["PasswordPolicy"] or {}).get("PasswordReusePrevention", 0)
    return unless(
        kept < 24, f"The last {kept} passwords are refused." if kept else "Old passwords are accepted."
    )


def support_role(account: Item) -> Verdict:
    """Somebody can open cases with AWS Support."""
    return unless(not account["SupportRoles"], "No role has the policy AWSSupportAccess.")


def user_mfa(user: Item) -> Verdict:
    """Who has a password has MFA."""
    if user["Password"] is None:
        return None
    return unless(not user["MfaDevices"], "The user has a password and no MFA device.")


def _active(user: Item) -> list[dict[str, Any]]:
    return [key for key in user["Keys"] if key["Status"] == "Active"]


def key_age(user: Item) -> Verdict:
    """No active key is older than 90 days."""
    if not (keys := _active(user)):
        return None
    old = [(key["Id"], age) for key in keys if (age := user.days_since(key["CreateDate"])) > MAX_KEY_DAYS]
    return unless(bool(old), ", ".join(f"Key {uid} is {age} days old" for uid, age in old) + ".")


def key_unused(user: Item) -> Verdict:
    """No active key lies idle for more than 45 days."""
    if not (keys := _active(user)):
        return None
    idle = []
    for key in keys:
        seen = Item(resource=user.resource, facts=key, seen_at=user.seen_at)["LastUsed"]
        if (days := user.days_since(seen or key["CreateDate"])) > MAX_IDLE_DAYS:
            idle.append(f"Key {key['Id']} was not used for {days} days")
    return unless(bool(idle), ", ".join(idle) + ".")


def password_unused(user: Item) -> Verdict:
    """No password lies idle for more than 45 days."""
    if user["Password"] is None:
        return None
    days = user.days_since(user.optional("PasswordLastUsed") or user["Password"]["CreateDate"])
    return unless(days > MAX_IDLE_DAYS, f"The password was not used for {days} days.")


def one_key(user: Item) -> Verdict:
    """One active key at most."""
    if not (keys := _active(user)):
        return None
    return unless(len(keys) > 1, f"{len(keys)} keys are active.")


def through_groups(user: Item) -> Verdict:
    """Permissions come from groups."""
    own = [*user["Inline"], *(policy["PolicyName"] for policy in user["Attached"])]
    return unless(bool(own), f"Policies of its own: {', '.join(sorted(map(str, own)))}.")


def full_admin(policy: Item) -> Verdict:
    """Not everything on everything."""
    for statement in statements(policy["Document"]):
        if (
            statement.get("Effect") == "Allow"
            and {"*", "*:*"} & set(map(str, listed(statement.get("Action"))))
            and "*" in map(str, listed(statement.get("Resource")))
        ):
            return Failed('A statement allows "*" on "*".')
    return PASSED


def trusts_everyone(role: Item) -> Verdict:
    """Not everyone may become it."""
    opened = open_statements(role["AssumeRolePolicyDocument"])
    return unless(bool(opened), f"Everyone may assume it: {', '.join(opened)}.")


def external_id(role: Item) -> Verdict:
    """Another account has to name an external id, or be tied otherwise, to become it."""
    foreign: list[str] = []
    for statement in statements(role["AssumeRolePolicyDocument"]):
        if statement.get("Effect") != "Allow" or _names_external_id(statement) or is_tied(statement):
            continue
        foreign += [
            account
            for principal in principals(statement)
            if (account := principal.split(":")[4] if principal.startswith("arn:") else principal) != "*"
            and account != role["Account"]
        ]
    accounts = ", ".join(sorted(set(foreign)))
    return unless(bool(foreign), f"Account {accounts} may assume it without an external id.")


def _names_external_id(statement: Any) -> bool:
    return any(
        str(key).lower() == "sts:externalid"
        for keys in (statement.get("Condition") or {}).values()
        for key in keys
    )


def expired(certificate: Item) -> Verdict:
    """The certificate is valid for another 30 days."""
    left = -certificate.days_since(certificate["Expiration"])
    return unless(
        left < 30, f"It has expired {-left} days ago." if left < 0 else f"It expires in {left} days."
    )


SERVICE = Service(
    name="iam",
    regional=False,
    reference="https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html",
    sources=(
        Source(
            kind=ACCOUNT,
            collect=account,
            checks=(
                Check(
                    id="iam.root_mfa",
                    title="Root user has no MFA",
                    severity=Severity.CRITICAL,
                    judge=root_mfa,
                    why="The root user can do everything, and nothing but a password protects it.",
                    fix="Register a hardware key or passkey for the root user.",
                    cis=("1.5",),
                ),
                Check(
                    id="iam.root_access_keys",
                    title="Root user has access keys",
                    severity=Severity.CRITICAL,
                    judge=root_keys,
                    why="Such a key can do everything, cannot be narrowed and asks for no MFA.",
                    fix="Delete the keys of the root user and use roles.",
                    cis=("1.4",),
                ),
                Check(
                    id="iam.password_length",
                    title="Short passwords are allowed",
                    severity=Severity.MEDIUM,
                    judge=password_length,
                    why="Short passwords are guessed.",
                    fix="Set a password policy with at least 14 characters.",
                    cis=("1.8",),
                ),
                Check(
                    id="iam.password_reuse",
                    title="Old passwords can be used again",
                    severity=Severity.LOW,
                    judge=password_reuse,
                    why="A password that leaked once comes back.",
                    fix="Set the password policy to remember 24 passwords.",
                    cis=("1.9",),
                ),
                Check(
                    id="iam.support_role",
                    title="Nobody may open cases with AWS Support",
                    severity=Severity.LOW,
                    judge=support_role,
                    why="In an incident time is lost until somebody with the right to ask is found.",
                    fix="Attach the policy AWSSupportAccess to a role that the team on duty can assume.",
                    cis=("1.17",),
                    pillars=("security", "operational-excellence"),
                ),
            ),
        ),
        Source(
            kind=USER,
            collect=users,
            checks=(
                Check(
                    id="iam.user_mfa",
                    title="User with a password has no MFA",
                    severity=Severity.HIGH,
                    judge=user_mfa,
                    why="A leaked or guessed password alone opens the console.",
                    fix="Register an MFA device, or let people sign in through IAM Identity Center.",
                    cis=("1.10",),
                ),
                Check(
                    id="iam.user_key_age",
                    title="Access key is older than 90 days",
                    severity=Severity.MEDIUM,
                    judge=key_age,
                    why="The longer a key lives, the more places know it.",
                    fix="Make a new key, change over, delete the old one; better, use roles.",
                    cis=("1.14",),
                ),
                Check(
                    id="iam.user_key_unused",
                    title="Access key is not used",
                    severity=Severity.MEDIUM,
                    judge=key_unused,
                    why="Nobody would miss it, and nobody would notice its abuse.",
                    fix="Deactivate the key and delete it after a while.",
                    cis=("1.12",),
                ),
                Check(
                    id="iam.user_password_unused",
                    title="Password is not used",
                    severity=Severity.MEDIUM,
                    judge=password_unused,
                    why="Accounts of people who left are taken over unnoticed.",
                    fix="Remove the user's console access, or the user.",
                    cis=("1.12",),
                ),
                Check(
                    id="iam.user_two_keys",
                    title="User has two active access keys",
                    severity=Severity.LOW,
                    judge=one_key,
                    why="The second is meant for the days of a change only.",
                    fix="Find out which one is in use and deactivate the other.",
                    cis=("1.13",),
                ),
                Check(
                    id="iam.user_direct_policies",
                    title="User has policies of its own",
                    severity=Severity.LOW,
                    judge=through_groups,
                    why="Permissions of single users are overlooked when somebody changes their job.",
                    fix="Move the policies to a group or role.",
                    cis=("1.15",),
                ),
            ),
        ),
        Source(
            kind=POLICY,
            collect=policies,
            checks=(
                Check(
                    id="iam.policy_full_admin",
                    title="Policy allows everything",
                    severity=Severity.HIGH,
                    judge=full_admin,
                    why="Whoever holds it, or steals it from a holder, owns the account.",
                    fix="Allow the actions that are used; IAM Access Analyzer can write such a policy.",
                    cis=("1.16",),
                ),
            ),
        ),
        Source(
            kind=ROLE,
            collect=roles,
            checks=(
                Check(
                    id="iam.role_trusts_everyone",
                    title="Everyone may assume the role",
                    severity=Severity.CRITICAL,
                    judge=trusts_everyone,
                    why="Any AWS account in the world can take the role's permissions.",
                    fix="Name the accounts or services in the trust policy.",
                ),
                Check(
                    id="iam.role_external_id",
                    title="Another account may assume the role without an external id",
                    severity=Severity.MEDIUM,
                    judge=external_id,
                    why="A service provider can be talked into using its access for somebody else.",
                    fix='Add a condition on "sts:ExternalId" to the trust policy.',
                ),
            ),
        ),
        Source(
            kind=CERTIFICATE,
            collect=certificates,
            checks=(
                Check(
                    id="iam.certificate_expired",
                    title="Certificate has expired or soon will",
                    severity=Severity.MEDIUM,
                    judge=expired,
                    why="Visitors are turned away, or learn to ignore warnings.",
                    fix="Replace it by one of Certificate Manager, which renews itself, and delete it.",
                    cis=("1.19",),
                    pillars=("security", "reliability"),
                ),
            ),
        ),
    ),
)
