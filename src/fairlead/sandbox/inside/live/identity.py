"""IAM roles, profiles, policies and users."""

from ministack.services import iam

from fairlead.sandbox.inside.live.kind import Kind, Model, document, picked, some, tag_list


def _inline(policies: Model | None) -> list[Model]:
    return [{"PolicyName": name, "PolicyDocument": document(text)} for name, text in (policies or {}).items()]


def _role(key: str) -> Model | None:
    role = iam._roles.get(key)
    if role is None:
        return None
    return some(
        RoleName=key,
        **picked(role, "Arn", "RoleId", "Path", "Description", "MaxSessionDuration"),
        AssumeRolePolicyDocument=document(role["AssumeRolePolicyDocument"]),
        ManagedPolicyArns=list(role.get("AttachedPolicies") or []),
        Policies=_inline(role.get("InlinePolicies")),
        PermissionsBoundary=_boundary(role),
        Tags=tag_list(role.get("Tags")),
    )


def _boundary(entity: Model) -> str | None:
    boundary = entity.get("PermissionsBoundary")
    return boundary.get("PermissionsBoundaryArn") if isinstance(boundary, dict) else boundary


def _profile(key: str) -> Model | None:
    profile = iam._instance_profiles.get(key)
    if profile is None:
        return None
    return some(
        InstanceProfileName=key, **picked(profile, "Arn", "Path"), Roles=list(profile.get("Roles") or [])
    )


def _holders(arn: str, entities: object) -> list[str]:
    return [
        name
        for name, entity in entities.items()  # type: ignore[attr-defined]
        if arn in (entity.get("AttachedPolicies") or [])
    ]


def _managed_policy(key: str) -> Model | None:
    policy = iam._policies.get(key)
    if policy is None:
        return None
    version = policy["Versions"][policy["DefaultVersionId"]]
    return some(
        PolicyArn=key,
        ManagedPolicyName=policy["PolicyName"],
        **picked(policy, "PolicyId", "Path", "Description", "DefaultVersionId", "CreateDate", "UpdateDate"),
        AttachmentCount=policy.get("AttachmentCount", 0),
        IsAttachable=policy.get("IsAttachable", True),
        PolicyDocument=document(version["Document"]),
        Roles=_holders(key, iam._roles),
        Users=_holders(key, iam._users),
        Groups=_holders(key, iam._groups),
    )


def _user(key: str) -> Model | None:
    user = iam._users.get(key)
    if user is None:
        return None
    return some(
        UserName=key,
        **picked(user, "Arn", "Path"),
        ManagedPolicyArns=list(user.get("AttachedPolicies") or []),
        Policies=_inline(iam._user_inline_policies.get(key)),
        PermissionsBoundary=_boundary(user),
        Groups=[name for name, group in iam._groups.items() if key in (group.get("Users") or [])],
        Tags=tag_list(user.get("Tags")),
    )


KINDS = (
    Kind(type_name="AWS::IAM::Role", keys=iam._roles.keys, read=_role),
    Kind(
        type_name="AWS::IAM::InstanceProfile",
        keys=iam._instance_profiles.keys,
        read=_profile,
        physical_of=lambda key: iam._instance_profiles[key]["Arn"],
        key_after=lambda physical, _: physical.rpartition("/")[2],
    ),
    Kind(
        type_name="AWS::IAM::ManagedPolicy",
        unique=("ManagedPolicyName",),
        keys=lambda: [arn for arn in iam._policies if ":iam::aws:" not in arn],
        read=_managed_policy,
    ),
    Kind(type_name="AWS::IAM::User", keys=iam._users.keys, read=_user),
)
