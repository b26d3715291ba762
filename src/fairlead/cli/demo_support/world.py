"""The AWS of the demo: the provider's account and two customers', each with faults, people and a past.

In the local AWS trust policies, ExternalIds and identity policies are enforced.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

PROVIDER = "111122223333"
REGION, HOME_REGION = "ap-northeast-2", "us-east-1"
REGIONS = (REGION, HOME_REGION)  # IAM's events are in the second
HUB_ROLE, CUSTOMER_ROLE = "SupportHub", "FairleadReadOnly"
HUB_ARN = f"arn:aws:iam::{PROVIDER}:role/{HUB_ROLE}"
SECURITY_AUDIT = "arn:aws:iam::aws:policy/SecurityAudit"
_EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}
_IMAGE = "ami-0d1bf5b68307103c2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """A customer: what is theirs and nobody else's is called `word`-something."""

    account: str
    name: str
    word: str
    organization: int
    people: tuple[str, str]  # who deletes and terminates; who makes access keys
    gone: str  # bucket that the first of them deleted
    hostile: str = ""  # a tag of a server, written by who wishes ill

    @property
    def marks(self) -> tuple[str, ...]:
        """What must never be seen from another customer's ticket."""
        return (self.account, self.word, *self.people, self.name)


@dataclass(frozen=True, slots=True)
class Aws:
    """The local AWS."""

    endpoint_url: str

    def client(
        self, service: str, account: str, *, region: str = REGION, keys: tuple[str, str] | None = None
    ) -> Any:
        """As root of `account`, or with `keys`."""
        key, secret = keys or (account, "sandbox")
        return _session().client(
            service,
            region_name=region,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )


@cache
def _session() -> Any:
    import boto3  # takes half a second

    return boto3.session.Session()


def policy(*statements: dict[str, Any]) -> str:
    """A policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trust(principal: str, external_id: str) -> str:
    """Lets `principal` in, if it knows the ExternalId."""
    return policy(
        {
            "Effect": "Allow",
            "Principal": {"AWS": principal},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
        }
    )


def provide(aws: Aws, hub_external_id: str) -> tuple[str, str]:
    """The provider's account: a user for the server, who may become the hub role only; its keys."""
    iam = aws.client("iam", PROVIDER)
    iam.create_user(UserName="fairlead")
    iam.put_user_policy(
        UserName="fairlead",
        PolicyName="become-the-hub",
        PolicyDocument=policy({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": HUB_ARN}),
    )
    iam.create_role(
        RoleName=HUB_ROLE,
        AssumeRolePolicyDocument=trust(f"arn:aws:iam::{PROVIDER}:user/fairlead", hub_external_id),
    )
    roles = f"arn:aws:iam::*:role/{CUSTOMER_ROLE}"
    iam.put_role_policy(
        RoleName=HUB_ROLE,
        PolicyName="go-on",
        PolicyDocument=policy({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": roles}),
    )
    key = iam.create_access_key(UserName="fairlead")["AccessKey"]
    return str(key["AccessKeyId"]), str(key["SecretAccessKey"])


def let_in(aws: Aws, estate: Estate, trust_policy: dict[str, Any]) -> None:
    """What the customer does with the trust policy that Fairlead gave them."""
    iam = aws.client("iam", estate.account)
    iam.create_role(RoleName=CUSTOMER_ROLE, AssumeRolePolicyDocument=json.dumps(trust_policy))
    iam.attach_role_policy(RoleName=CUSTOMER_ROLE, PolicyArn=SECURITY_AUDIT)


def furnish(aws: Aws, estate: Estate) -> None:
    """Faults, each beside something that is as it should be, and what people did there."""
    first, second = estate.people
    made = {name: _person(aws, estate, name) for name in estate.people}
    _storage(aws, estate)
    servers = _servers(aws, estate)
    _alarms(aws, estate, servers)
    here = {"LocationConstraint": REGION}
    s3 = aws.client("s3", estate.account, keys=made[first])
    s3.create_bucket(Bucket=estate.gone, CreateBucketConfiguration=here)
    s3.delete_bucket(Bucket=estate.gone)
    aws.client("ec2", estate.account, keys=made[first]).terminate_instances(InstanceIds=servers[-1:])
    aws.client("iam", estate.account, keys=made[second], region=HOME_REGION).create_access_key(UserName=first)


def _person(aws: Aws, estate: Estate, name: str) -> tuple[str, str]:
    """Somebody with a password, without MFA; an access key of theirs."""
    iam = aws.client("iam", estate.account)
    iam.create_user(UserName=name)
    iam.create_login_profile(UserName=name, Password="Correct-Horse-9-Battery")  # noqa: S106 - of the demo
    iam.put_user_policy(UserName=name, PolicyName="everything", PolicyDocument=policy(_EVERYTHING))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return str(key["AccessKeyId"]), str(key["SecretAccessKey"])


def _storage(aws: Aws, estate: Estate) -> None:
    s3, here = aws.client("s3", estate.account), {"LocationConstraint": REGION}
    public, private = f"{estate.word}-homepage", f"{estate.word}-invoices"
    s3.create_bucket(Bucket=public, CreateBucketConfiguration=here)
    s3.delete_public_access_block(Bucket=public)
    everyone = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{public}/*",
    }
    s3.put_bucket_policy(Bucket=public, Policy=policy(everyone))
    s3.create_bucket(Bucket=private, CreateBucketConfiguration=here)
    blocked = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=private, PublicAccessBlockConfiguration=dict.fromkeys(blocked, True))
    s3.put_bucket_versioning(Bucket=private, VersioningConfiguration={"Status": "Enabled"})
    ec2 = aws.client("ec2", estate.account)
    for what, encrypted in (("scratch", False), ("orders", True)):
        ec2.create_volume(
            AvailabilityZone=f"{REGION}a",
            Size=20,
            VolumeType="gp3",
            Encrypted=encrypted,
            TagSpecifications=[_named("volume", f"{estate.word}-{what}")],
        )


def _named(kind: str, name: str) -> dict[str, Any]:
    return {"ResourceType": kind, "Tags": [{"Key": "Name", "Value": name}]}


def _servers(aws: Aws, estate: Estate) -> list[str]:
    ec2 = aws.client("ec2", estate.account)
    for what, block in (("ssh-open", "0.0.0.0/0"), ("office", "203.0.113.0/24")):
        group = ec2.create_security_group(GroupName=f"{estate.word}-{what}", Description=what)["GroupId"]
        rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": block}]}
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    names = [f"{estate.word}-{what}" for what in ("web-1", "web-2", "batch")]
    names += [estate.hostile] if estate.hostile else []
    ids = []
    for name in (*names, f"{estate.word}-old"):
        made = ec2.run_instances(
            ImageId=_IMAGE,
            InstanceType="t3.micro",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[_named("instance", name)],
        )
        ids.append(str(made["Instances"][0]["InstanceId"]))
    return ids


def _alarms(aws: Aws, estate: Estate, servers: Sequence[str]) -> None:
    cloudwatch = aws.client("cloudwatch", estate.account)
    dimensions = [{"Name": "InstanceId", "Value": servers[0]}]
    cloudwatch.put_metric_data(
        Namespace="AWS/EC2",
        MetricData=[{"MetricName": "CPUUtilization", "Dimensions": dimensions, "Value": 96.5}],
    )
    states = (
        ("web-cpu-high", "ALARM", "96.5 percent is above 80"),
        ("disk-low", "OK", "below the threshold"),
    )
    for what, state, reason in states:
        name = f"{estate.word}-{what}"
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="AWS/EC2",
            MetricName="CPUUtilization",
            Dimensions=dimensions,
            Statistic="Average",
            Period=300,
            EvaluationPeriods=1,
            Threshold=80.0,
            ComparisonOperator="GreaterThanThreshold",
        )
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason=reason)
