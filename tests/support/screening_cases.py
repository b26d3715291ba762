"""For every check: facts that pass, what makes them fail, what nearly does, and what it must have read."""
# Policies and rules stay on one line.
# ruff: noqa: E501

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fairlead.support.collect import Unreadable
from tests.support.screening_accounts import ALL_BLOCKED, open_to_everyone, statement, tls_only

NOW = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
ACCOUNT = "111122223333"
OPEN = open_to_everyone("*")
TIED = statement(Effect="Allow", Principal="*", Action="*", Resource="*", Condition={"StringEquals": {"aws:SourceAccount": ACCOUNT}})  # fmt: skip
LOOSE = statement(Effect="Allow", Principal={"AWS": "*"}, Action="*", Resource="*", Condition={"StringEqualsIfExists": {"aws:SourceAccount": ACCOUNT}})  # fmt: skip
EVERYONE = {"Grantee": {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}, "Permission": "READ"}  # fmt: skip
LOG_DELIVERY = {"Grantee": {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/s3/LogDelivery"}, "Permission": "WRITE"}  # fmt: skip


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def tcp(
    port: int, block: str = "0.0.0.0/0", last: int | None = None, protocol: str = "tcp"
) -> dict[str, Any]:
    kind = {"Ipv6Ranges": [{"CidrIpv6": block}]} if ":" in block else {"IpRanges": [{"CidrIp": block}]}
    return {"IpProtocol": protocol, "FromPort": port, "ToPort": last or port, **kind}


def nacl(number: int, action: str, first: int, last: int, block: str = "0.0.0.0/0") -> dict[str, Any]:
    return {"RuleNumber": number, "RuleAction": action, "Protocol": "6", "Egress": False, "CidrBlock": block, "PortRange": {"From": first, "To": last}}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """`good` passes; with `bad` it fails; with `near` it does not; without `needs` it is not assessed."""

    good: dict[str, Any]
    bad: dict[str, Any]
    near: dict[str, Any]
    needs: str
    more_bad: tuple[dict[str, Any], ...] = field(default=())


def switch(name: str, good: Any, bad: Any, near: Any | None = None, **others: Any) -> Case:
    """A case about one fact; without a `near` of its own, other facts that look bad must not matter."""
    return Case(
        {name: good}, {name: bad}, {name: near} if near is not None else {"Unrelated": bad, **others}, name
    )


def policy(name: str = "Policy", within: str | None = None) -> Case:
    """A case about a resource policy, alone or in a fact of several attributes."""
    if within:
        return Case(
            {within: {name: TIED}}, {within: {name: OPEN}}, {within: {}}, within, ({within: {name: LOOSE}},)
        )
    no_principal = statement(Effect="Deny", Principal="*", Action="*", Resource="*")
    return Case({name: TIED}, {name: OPEN}, {name: no_principal}, name, ({name: LOOSE},))


BUCKET: dict[str, Any] = {"Block": None, "AccountBlock": None, "Grants": [], "Policy": None}
PARTLY = {**ALL_BLOCKED, "IgnorePublicAcls": False, "RestrictPublicBuckets": False}
DENIED = Unreadable("denied")
KEY = {"KeySpec": "SYMMETRIC_DEFAULT", "KeyState": "Enabled", "Origin": "AWS_KMS"}
ACCESS_KEY = {"Id": "…ABCD", "Status": "Active", "CreateDate": ago(10), "LastUsed": ago(1)}
SUMMARY = {"AccountMFAEnabled": 1, "AccountAccessKeysPresent": 0}
PASSWORDS = {"MinimumPasswordLength": 14, "PasswordReusePrevention": 24}
CLUSTER: dict[str, Any] = {"resourcesVpcConfig": {"endpointPublicAccess": False}}


def trust(principal: Any, **condition: Any) -> dict[str, Any]:
    more = {"Condition": condition} if condition else {}
    return {"AssumeRolePolicyDocument": {"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal, **more}}}  # fmt: skip


CASES: dict[str, Case] = {
    "s3.bucket_public_acl": Case(
        BUCKET, {"Grants": [EVERYONE]}, {"Grants": [EVERYONE], "AccountBlock": ALL_BLOCKED}, "Grants",
        ({"Grants": [EVERYONE], "Block": PARTLY}, {"Grants": [EVERYONE], "AccountBlock": DENIED}),
    ),
    "s3.bucket_public_policy": Case(
        BUCKET, {"Policy": OPEN}, {"Policy": TIED}, "Policy",
        ({"Policy": LOOSE, "Block": PARTLY}, {"Policy": OPEN, "AccountBlock": DENIED}),
    ),
    "s3.bucket_public_access_block": Case(
        {**BUCKET, "Block": ALL_BLOCKED}, {"Block": PARTLY}, {"Block": PARTLY, "AccountBlock": ALL_BLOCKED}, "Block",
        ({"Block": None},),
    ),
    "s3.bucket_encryption": switch("Encryption", {"Rules": [{"ApplyServerSideEncryptionByDefault": {}}]}, None),
    "s3.bucket_tls": Case(
        {"Policy": tls_only("b")}, {"Policy": None}, {"Policy": tls_only("b").replace("s3:*", "*")}, "Policy",
        ({"Policy": tls_only("b").replace("false", "true")}, {"Policy": tls_only("b").replace("s3:*", "s3:GetObject")}),
    ),
    "s3.bucket_versioning": Case({"Versioning": "Enabled"}, {"Versioning": "Suspended"}, {"MFADelete": "Disabled"}, "Versioning", ({"Versioning": None},)),
    "s3.bucket_logging": switch("Logging", {"TargetBucket": "logs"}, None),
    "s3.bucket_lifecycle": Case({"Lifecycle": [{"Status": "Enabled"}]}, {"Lifecycle": None}, {"Lifecycle": [{"Status": "Disabled"}, {"Status": "Enabled"}]}, "Lifecycle", ({"Lifecycle": [{"Status": "Disabled"}]},)),
    "s3.account_public_access_block": Case({"Block": ALL_BLOCKED}, {"Block": PARTLY}, {"Other": None}, "Block", ({"Block": None},)),
    "ec2.instance_imdsv2": switch("MetadataOptions", {"HttpTokens": "required", "HttpEndpoint": "enabled"}, {"HttpTokens": "optional", "HttpEndpoint": "enabled"}, {"HttpTokens": "optional", "HttpEndpoint": "disabled"}),
    "ec2.instance_public_address": Case({"PublicIpAddress": None}, {"PublicIpAddress": "198.51.100.7"}, {"PrivateIpAddress": "10.0.0.7"}, "PublicIpAddress"),
    "ec2.instance_role": Case({"IamInstanceProfile": {"Arn": "a"}}, {"IamInstanceProfile": None}, {"KeyName": None}, "IamInstanceProfile"),
    "ec2.instance_monitoring": switch("Monitoring", {"State": "enabled"}, {"State": "disabled"}, {"State": "pending"}),
    "ec2.security_group_ssh": Case(
        {"IpPermissions": [tcp(443)]}, {"IpPermissions": [tcp(22)]}, {"IpPermissions": [tcp(22, "10.0.0.0/8"), tcp(23), tcp(22, protocol="udp")]}, "IpPermissions",
        ({"IpPermissions": [tcp(22, "::/0")]}, {"IpPermissions": [tcp(1, last=1024)]}, {"IpPermissions": [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]}, {"IpPermissions": [tcp(22, "0.0.0.0/1"), tcp(22, "128.0.0.0/1")]}),
    ),
    "ec2.security_group_rdp": Case({"IpPermissions": [tcp(443)]}, {"IpPermissions": [tcp(3389, "::/0")]}, {"IpPermissions": [tcp(3390), tcp(3389, "203.0.113.0/24")]}, "IpPermissions"),
    "ec2.security_group_database": Case({"IpPermissions": [tcp(443)]}, {"IpPermissions": [tcp(5432)]}, {"IpPermissions": [tcp(5432, "10.0.0.0/8"), tcp(5433)]}, "IpPermissions", ({"IpPermissions": [tcp(6000, last=7000)]},)),
    "ec2.security_group_all_ports": Case({"IpPermissions": [tcp(443)]}, {"IpPermissions": [{"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}]}, {"IpPermissions": [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, tcp(1, last=65535)]}, "IpPermissions", ({"IpPermissions": [tcp(0, last=65535)]},)),
    "ec2.default_security_group": Case(
        {"GroupName": "default", "IpPermissions": [], "IpPermissionsEgress": []}, {"IpPermissionsEgress": [{"IpProtocol": "-1"}]}, {"GroupName": "default-web", "IpPermissions": [tcp(443)]}, "IpPermissions",
    ),
    "ec2.address_idle": Case({"AssociationId": "a"}, {"AssociationId": None}, {"AssociationId": None, "NetworkInterfaceId": "eni-1"}, "AssociationId"),
    "ec2.image_public": switch("Public", False, True),
    "ebs.volume_encryption": switch("Encrypted", True, False),
    "ebs.volume_idle": switch("State", "in-use", "available", "creating"),
    "ebs.volume_type": switch("VolumeType", "gp3", "gp2", "io2"),
    "ebs.snapshot_public": switch("Public", False, True),
    "ebs.snapshot_encryption": switch("Encrypted", True, False),
    "ebs.default_encryption": switch("Enabled", True, False),
    "vpc.flow_logs": Case({"FlowLogs": [{"FlowLogStatus": "ACTIVE"}]}, {"FlowLogs": []}, {"FlowLogs": [{}]}, "FlowLogs", ({"FlowLogs": [{"FlowLogStatus": "INACTIVE"}]},)),
    "vpc.network_acl_admin_ports": Case(
        {"Entries": [nacl(90, "deny", 22, 22), nacl(91, "deny", 3389, 3389), nacl(100, "allow", 0, 65535)], "Associations": [{}]},
        {"Entries": [nacl(100, "allow", 0, 65535), nacl(110, "deny", 22, 22)]},
        {"Entries": [nacl(100, "allow", 22, 22, "10.0.0.0/8"), nacl(110, "allow", 443, 443), {**nacl(120, "allow", 22, 22), "Egress": True}]}, "Entries",
    ),
    "vpc.subnet_public_addresses": Case({"MapPublicIpOnLaunch": False}, {"MapPublicIpOnLaunch": True}, {"MapPublicIpOnLaunch": True, "DefaultForAz": True}, "MapPublicIpOnLaunch"),
    "iam.root_mfa": switch("Summary", SUMMARY, {**SUMMARY, "AccountMFAEnabled": 0}, {**SUMMARY, "MFADevices": 0}),
    "iam.root_access_keys": switch("Summary", SUMMARY, {**SUMMARY, "AccountAccessKeysPresent": 1}, {**SUMMARY, "AccessKeysPerUserQuota": 2}),
    "iam.password_length": Case({"PasswordPolicy": PASSWORDS}, {"PasswordPolicy": {"MinimumPasswordLength": 13}}, {"PasswordPolicy": {"MinimumPasswordLength": 14}}, "PasswordPolicy", ({"PasswordPolicy": None},)),
    "iam.password_reuse": Case({"PasswordPolicy": PASSWORDS}, {"PasswordPolicy": {"PasswordReusePrevention": 23}}, {"PasswordPolicy": {"PasswordReusePrevention": 24}}, "PasswordPolicy", ({"PasswordPolicy": None},)),
    "iam.support_role": switch("SupportRoles", [{"RoleName": "support"}], []),
    "iam.user_mfa": Case({"Password": {"CreateDate": ago(1)}, "MfaDevices": [{}]}, {"MfaDevices": []}, {"Password": None, "MfaDevices": []}, "MfaDevices"),
    "iam.user_key_age": Case({"Keys": [ACCESS_KEY]}, {"Keys": [{**ACCESS_KEY, "CreateDate": ago(91)}]}, {"Keys": [{**ACCESS_KEY, "CreateDate": ago(90)}, {**ACCESS_KEY, "CreateDate": ago(900), "Status": "Inactive"}]}, "Keys"),
    "iam.user_key_unused": Case({"Keys": [ACCESS_KEY]}, {"Keys": [{**ACCESS_KEY, "LastUsed": ago(46)}]}, {"Keys": [{**ACCESS_KEY, "LastUsed": None}]}, "Keys", ({"Keys": [{**ACCESS_KEY, "CreateDate": ago(60), "LastUsed": None}]},)),
    "iam.user_password_unused": Case({"Password": {"CreateDate": ago(300)}, "PasswordLastUsed": ago(2)}, {"PasswordLastUsed": ago(46)}, {"PasswordLastUsed": None, "Password": {"CreateDate": ago(3)}}, "Password"),
    "iam.user_two_keys": Case({"Keys": [ACCESS_KEY]}, {"Keys": [ACCESS_KEY, ACCESS_KEY]}, {"Keys": [ACCESS_KEY, {**ACCESS_KEY, "Status": "Inactive"}]}, "Keys"),
    "iam.user_direct_policies": Case({"Inline": [], "Attached": []}, {"Inline": ["all"]}, {"Groups": ["admins"]}, "Attached", ({"Attached": [{"PolicyName": "p"}]},)),
    "iam.policy_full_admin": Case(
        {"Document": {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}}, {"Document": {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}},
        {"Document": {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::b"}, {"Effect": "Deny", "Action": "*", "Resource": "*"}]}}, "Document",
        ({"Document": {"Statement": [{"Effect": "Allow", "Action": ["s3:Get*", "*:*"], "Resource": ["*"]}]}},),
    ),
    "iam.role_trusts_everyone": Case(trust({"Service": "ec2.amazonaws.com"}), trust("*"), trust({"AWS": "*"}, StringEquals={"aws:PrincipalOrgID": "o-1"}), "AssumeRolePolicyDocument", (trust({"AWS": ["*"]}), trust({"AWS": "*"}, StringLike={"aws:PrincipalArn": "*"}))),
    "iam.role_external_id": Case(
        {**trust({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}), "Account": ACCOUNT}, trust({"AWS": "arn:aws:iam::444455556666:root"}), trust({"AWS": "444455556666"}, StringEquals={"sts:ExternalId": "x"}), "AssumeRolePolicyDocument", (trust({"AWS": ["444455556666"]}),),
    ),
    "iam.certificate_expired": switch("Expiration", ago(-365), ago(1), ago(-31)),
    "rds.instance_encryption": switch("StorageEncrypted", True, False),
    "rds.instance_public": switch("PubliclyAccessible", False, True),
    "rds.instance_backups": Case({"BackupRetentionPeriod": 7}, {"BackupRetentionPeriod": 6}, {"BackupRetentionPeriod": 1, "Engine": "aurora-mysql"}, "BackupRetentionPeriod", ({"BackupRetentionPeriod": 0},)),
    "rds.instance_minor_upgrades": switch("AutoMinorVersionUpgrade", True, False),
    "rds.instance_multi_az": Case({"MultiAZ": True}, {"MultiAZ": False}, {"MultiAZ": False, "Engine": "aurora-postgresql"}, "MultiAZ"),
    "rds.instance_deletion_protection": Case({"DeletionProtection": True}, {"DeletionProtection": False}, {"DeletionProtection": False, "Engine": "docdb"}, "DeletionProtection"),
    "rds.cluster_encryption": switch("StorageEncrypted", True, False),
    "rds.cluster_backups": switch("BackupRetentionPeriod", 35, 1, 7),
    "rds.cluster_deletion_protection": Case({"DeletionProtection": True}, {"DeletionProtection": False, "Engine": "aurora-mysql"}, {"Engine": "aurora-mysql"}, "DeletionProtection"),
    "rds.snapshot_public": switch("Restorers", [], ["all"], ["444455556666"]),
    "rds.snapshot_encryption": switch("Encrypted", True, False),
    "lambda.function_runtime": Case({"Runtime": "python3.13"}, {"Runtime": "python3.8"}, {"Runtime": None, "PackageType": "Image"}, "Runtime"),
    "lambda.function_public_policy": policy(),
    "lambda.function_url": switch("Urls", [], [{"AuthType": "NONE"}], [{"AuthType": "AWS_IAM"}]),
    "lambda.function_secret_variables": switch("VariableNames", ["STAGE"], ["DB_PASSWORD"], ["DB_PASSWORD_ARN", "SECRET_NAME"]),
    "lambda.function_dead_letters": Case({"DeadLetterConfig": {"TargetArn": "a"}}, {"DeadLetterConfig": {}}, {"TracingConfig": {}}, "DeadLetterConfig"),
    "dynamodb.table_recovery": switch("Recovery", "ENABLED", "DISABLED"),
    "dynamodb.table_deletion_protection": switch("Table", {"DeletionProtectionEnabled": True}, {}),
    "dynamodb.table_customer_key": switch("Table", {"SSEDescription": {"SSEType": "KMS"}}, {}, {"SSEDescription": {"SSEType": "KMS", "Status": "UPDATING"}}),
    "sqs.queue_encryption": switch("Attributes", {"SqsManagedSseEnabled": "true"}, {"SqsManagedSseEnabled": "false"}, {"KmsMasterKeyId": "alias/aws/sqs"}),
    "sqs.queue_public_policy": policy(within="Attributes"),
    "sqs.queue_dead_letters": switch("Attributes", {"RedrivePolicy": '{"deadLetterTargetArn": "a"}'}, {}, {"RedriveAllowPolicy": "{}"}),
    "sns.topic_public_policy": policy(within="Attributes"),
    "sns.topic_encryption": switch("Attributes", {"KmsMasterKeyId": "k"}, {}),
    "sns.topic_plain_http": switch("Subscriptions", [], [{"Protocol": "http"}], [{"Protocol": "https"}]),
    "kms.key_rotation": Case({"Key": KEY, "Rotation": True}, {"Rotation": False}, {"Key": {**KEY, "KeySpec": "RSA_2048"}, "Rotation": False}, "Rotation"),
    "kms.key_public_policy": policy(),
    "kms.key_pending_deletion": switch("Key", KEY, {**KEY, "KeyState": "PendingDeletion"}, {**KEY, "KeyState": "Disabled"}),
    "cloudtrail.all_regions": Case(
        {"Trails": [{"IsMultiRegionTrail": True, "IsLogging": True}]}, {"Trails": [{"IsMultiRegionTrail": False, "IsLogging": True}]},
        {"Trails": [{"IsMultiRegionTrail": True, "IsLogging": DENIED}, {"IsMultiRegionTrail": True, "IsLogging": True}]}, "Trails", ({"Trails": []}, {"Trails": [{"IsMultiRegionTrail": True, "IsLogging": False}]}),
    ),
    "cloudtrail.trail_logging": switch("IsLogging", True, False),
    "cloudtrail.trail_validation": switch("LogFileValidationEnabled", True, False),
    "cloudtrail.trail_encryption": Case({"KmsKeyId": "k"}, {"KmsKeyId": None}, {"S3BucketName": "b"}, "KmsKeyId"),
    "cloudtrail.trail_cloudwatch": Case({"CloudWatchLogsLogGroupArn": "a"}, {"CloudWatchLogsLogGroupArn": None}, {"SnsTopicARN": None}, "CloudWatchLogsLogGroupArn"),
    "cloudwatch.alarm_rings": switch("StateValue", "OK", "ALARM", "INSUFFICIENT_DATA"),
    "cloudwatch.alarm_blind": switch("StateValue", "OK", "INSUFFICIENT_DATA", "ALARM"),
    "cloudwatch.alarm_unheard": Case({"AlarmActions": ["arn"]}, {"AlarmActions": []}, {"OKActions": []}, "AlarmActions", ({"ActionsEnabled": False},)),
    "logs.group_retention": Case({"retentionInDays": 30}, {"retentionInDays": None}, {"retentionInDays": 3653}, "retentionInDays"),
    "logs.group_customer_key": Case({"kmsKeyId": "k"}, {"kmsKeyId": None}, {"storedBytes": 0}, "kmsKeyId"),
    "secretsmanager.secret_rotation": Case({"RotationEnabled": True}, {"RotationEnabled": False}, {"RotationEnabled": False, "OwningService": "rds"}, "RotationEnabled"),
    "secretsmanager.secret_unused": Case({"LastAccessedDate": ago(1)}, {"LastAccessedDate": ago(91)}, {"LastAccessedDate": None, "CreatedDate": ago(90)}, "LastAccessedDate", ({"LastAccessedDate": None, "CreatedDate": ago(91)},)),
    "secretsmanager.secret_public_policy": policy(),
    "elbv2.load_balancer_logs": switch("Attributes", {"access_logs.s3.enabled": "true"}, {"access_logs.s3.enabled": "false"}),
    "elbv2.load_balancer_deletion_protection": switch("Attributes", {"deletion_protection.enabled": "true"}, {"deletion_protection.enabled": "false"}),
    "elbv2.load_balancer_invalid_headers": Case(
        {"Type": "application", "Attributes": {"routing.http.drop_invalid_header_fields.enabled": "true"}}, {"Attributes": {"routing.http.drop_invalid_header_fields.enabled": "false"}}, {"Type": "network", "Attributes": {}}, "Attributes",
    ),
    "elbv2.listener_plain_http": Case(
        {"Protocol": "HTTP", "DefaultActions": [{"Type": "redirect", "RedirectConfig": {"Protocol": "HTTPS"}}]}, {"DefaultActions": [{"Type": "forward"}]}, {"Protocol": "HTTPS", "DefaultActions": [{"Type": "forward"}]}, "DefaultActions",
        ({"DefaultActions": [{"Type": "redirect", "RedirectConfig": {"Protocol": "HTTP"}}]},),
    ),
    "elbv2.listener_old_tls": Case({"Protocol": "HTTPS", "SslPolicy": "ELBSecurityPolicy-TLS13-1-2-2021-06"}, {"SslPolicy": "ELBSecurityPolicy-2016-08"}, {"Protocol": "HTTP", "SslPolicy": "ELBSecurityPolicy-2016-08"}, "SslPolicy"),
    "eks.cluster_public_endpoint": switch("Cluster", CLUSTER, {"resourcesVpcConfig": {"endpointPublicAccess": True}}, {"resourcesVpcConfig": {"endpointPublicAccess": True, "publicAccessCidrs": ["203.0.113.0/24"]}}),
    "eks.cluster_logs": switch("Cluster", {"logging": {"clusterLogging": [{"enabled": True, "types": ["api", "audit", "authenticator"]}]}}, {"logging": {"clusterLogging": [{"enabled": True, "types": ["api"]}]}}, {"logging": {"clusterLogging": [{"enabled": True, "types": ["api", "audit"]}, {"enabled": True, "types": ["authenticator"]}, {"enabled": False, "types": ["scheduler"]}]}}),
    "eks.cluster_secrets": switch("Cluster", {"encryptionConfig": [{"resources": ["secrets"]}]}, {}),
    "ecr.repository_scan": switch("imageScanningConfiguration", {"scanOnPush": True}, {"scanOnPush": False}),
    "ecr.repository_mutable_tags": switch("imageTagMutability", "IMMUTABLE", "MUTABLE", "IMMUTABLE_WITH_EXCLUSION"),
    "ecr.repository_public_policy": policy(),
    "elasticache.group_at_rest": switch("AtRestEncryptionEnabled", True, False),
    "elasticache.group_in_transit": switch("TransitEncryptionEnabled", True, False),
    "elasticache.group_failover": switch("AutomaticFailover", "enabled", "disabled", "enabling"),
    "elasticache.group_backups": switch("SnapshotRetentionLimit", 7, 0, 1),
    "efs.file_system_encryption": switch("Encrypted", True, False),
    "efs.file_system_backups": switch("Backup", "ENABLED", None, "ENABLING"),
    "efs.file_system_public_policy": policy(),
}  # fmt: skip
