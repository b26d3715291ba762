"""Customer accounts in the sandbox, made through native APIs: each fault has a clean twin beside it."""

import io
import json
import zipfile
from typing import Any

import boto3

from tests.sandbox_service import SandboxProcess

REGION = "ap-northeast-2"
ALL_BLOCKED = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)
TRUST_LAMBDA = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


def statement(**members: Any) -> str:
    """A policy of one statement."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Sid": "One", **members}]})


def open_to_everyone(action: str, resource: str = "*") -> str:
    """A policy that lets in everyone."""
    return statement(Effect="Allow", Principal="*", Action=action, Resource=resource)


def tls_only(bucket: str) -> str:
    """The policy of a bucket that refuses plain HTTP."""
    return statement(
        Effect="Deny",
        Principal="*",
        Action="s3:*",
        Resource=[f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        Condition={"Bool": {"aws:SecureTransport": "false"}},
    )


class Seeder:
    """Makes resources in one account and region, all with `word` in their names."""

    def __init__(self, sandbox: SandboxProcess, account: str, word: str) -> None:
        self.account, self.word = account, word
        self._aws = sandbox.aws(account, REGION)
        self._clients: dict[str, Any] = {}

    def __call__(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = boto3.client(service, **self._aws)
        return self._clients[service]

    def name(self, what: str) -> str:
        return f"{self.word}-{what}"

    def buckets(self) -> None:
        """A bucket for the world, and one as it should be."""
        s3, here = self("s3"), {"LocationConstraint": REGION}
        public, clean = self.name("public"), self.name("clean")
        s3.create_bucket(Bucket=public, CreateBucketConfiguration=here, ObjectOwnership="ObjectWriter")
        s3.delete_public_access_block(Bucket=public)
        s3.put_bucket_acl(Bucket=public, ACL="public-read")
        s3.put_bucket_policy(
            Bucket=public, Policy=open_to_everyone("s3:GetObject", f"arn:aws:s3:::{public}/*")
        )
        s3.create_bucket(Bucket=clean, CreateBucketConfiguration=here)
        s3.put_public_access_block(Bucket=clean, PublicAccessBlockConfiguration=ALL_BLOCKED)
        s3.put_bucket_policy(Bucket=clean, Policy=tls_only(clean))
        s3.put_bucket_versioning(Bucket=clean, VersioningConfiguration={"Status": "Enabled"})
        s3.put_bucket_encryption(
            Bucket=clean,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
        )

    def network(self) -> None:
        """A VPC with an open group and one that is open to the office only."""
        ec2 = self("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        for what, block in (("open", "0.0.0.0/0"), ("office", "203.0.113.0/24")):
            group = ec2.create_security_group(
                GroupName=self.name(what), Description=what, VpcId=vpc
            )["GroupId"]  # fmt: skip
            ec2.authorize_security_group_ingress(
                GroupId=group,
                IpPermissions=[
                    {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": block}]},
                    {
                        "IpProtocol": "tcp",
                        "FromPort": 443,
                        "ToPort": 443,
                        "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
                    },
                ],
            )

    def volumes(self) -> None:
        """A volume in the clear and an encrypted one."""
        for what, encrypted in (("plain", False), ("sealed", True)):
            self("ec2").create_volume(
                AvailabilityZone=f"{REGION}a",
                Size=8,
                VolumeType="gp3",
                Encrypted=encrypted,
                TagSpecifications=[
                    {"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": self.name(what)}]}
                ],
            )

    def people(self) -> None:
        """A user with a password and no MFA, one with MFA, and a machine without a password."""
        iam = self("iam")
        for what in ("no-mfa", "mfa", "machine"):
            iam.create_user(UserName=self.name(what))
        for what in ("no-mfa", "mfa"):
            iam.create_login_profile(UserName=self.name(what), Password="Correct-Horse-9-Battery")
        device = iam.create_virtual_mfa_device(VirtualMFADeviceName=self.name("mfa"))["VirtualMFADevice"]
        iam.enable_mfa_device(
            UserName=self.name("mfa"),
            SerialNumber=device["SerialNumber"],
            AuthenticationCode1="123456",
            AuthenticationCode2="654321",
        )
        iam.create_role(
            RoleName=self.name("anyone"),
            AssumeRolePolicyDocument=statement(
                Effect="Allow", Principal={"AWS": "*"}, Action="sts:AssumeRole"
            ),
        )
        iam.create_role(RoleName=self.name("function"), AssumeRolePolicyDocument=TRUST_LAMBDA)

    def alarms(self) -> None:
        """An alarm that rings and one that does not."""
        cloudwatch = self("cloudwatch")
        for what, state in (("rings", "ALARM"), ("quiet", "OK")):
            cloudwatch.put_metric_alarm(
                AlarmName=self.name(what),
                MetricName="CPUUtilization",
                Namespace="AWS/EC2",
                Statistic="Average",
                Period=300,
                EvaluationPeriods=1,
                Threshold=80,
                ComparisonOperator="GreaterThanThreshold",
                AlarmActions=[f"arn:aws:sns:{REGION}:{self.account}:{self.name('private')}"],
            )
            cloudwatch.set_alarm_state(AlarmName=self.name(what), StateValue=state, StateReason="test")

    def messages(self) -> None:
        """A queue and a topic for everyone, and private ones."""
        sqs, sns = self("sqs"), self("sns")
        sqs.create_queue(
            QueueName=self.name("open"),
            Attributes={"Policy": open_to_everyone("sqs:SendMessage"), "SqsManagedSseEnabled": "false"},
        )
        sqs.create_queue(QueueName=self.name("private"), Attributes={"SqsManagedSseEnabled": "true"})
        opened = sns.create_topic(Name=self.name("open"))["TopicArn"]
        sns.set_topic_attributes(
            TopicArn=opened, AttributeName="Policy", AttributeValue=open_to_everyone("sns:Publish")
        )
        sns.create_topic(Name=self.name("private"))

    def data(self) -> None:
        """Databases, tables, keys, secrets, logs, repositories and file systems, good and bad."""
        for what, good in (("bad", False), ("good", True)):
            self("rds").create_db_instance(
                DBInstanceIdentifier=self.name(f"db-{what}"), DBInstanceClass="db.t3.micro",
                Engine="postgres", MasterUsername="admin1", MasterUserPassword="not-a-real-one",
                AllocatedStorage=20,
                StorageEncrypted=good, PubliclyAccessible=not good, BackupRetentionPeriod=7 if good else 0,
                DeletionProtection=good, MultiAZ=good,
            )  # fmt: skip
            self("dynamodb").create_table(
                TableName=self.name(f"table-{what}"), BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                DeletionProtectionEnabled=good,
            )  # fmt: skip
            self("ecr").create_repository(
                repositoryName=self.name(f"images-{what}"),
                imageScanningConfiguration={"scanOnPush": good},
                imageTagMutability="IMMUTABLE" if good else "MUTABLE",
            )
            self("efs").create_file_system(CreationToken=self.name(f"files-{what}"), Encrypted=good)
            group = self.name(f"logs-{what}")
            self("logs").create_log_group(logGroupName=group)
            if good:
                self("logs").put_retention_policy(logGroupName=group, retentionInDays=30)
            key = self("kms").create_key(Description=self.name(f"key-{what}"))["KeyMetadata"]["KeyId"]
            if good:
                self("kms").enable_key_rotation(KeyId=key)
        self("dynamodb").update_continuous_backups(
            TableName=self.name("table-good"),
            PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
        )
        self("secretsmanager").create_secret(
            Name=self.name("secret"), SecretString=f"{self.word}-VALUE-hunter2"
        )

    def functions(self) -> None:
        """A function that everyone may call, with a secret in its environment, and a tidy one."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("index.py", "def handler(event, context): return 1\n")
        for what, runtime, variables in (
            ("bad", "python3.8", {"DB_PASSWORD": f"{self.word}-VALUE-hunter2"}),
            ("good", "python3.12", {"DB_SECRET_ARN": "arn:of:it"}),
        ):
            self("lambda").create_function(
                FunctionName=self.name(f"function-{what}"), Runtime=runtime, Handler="index.handler",
                Role=f"arn:aws:iam::{self.account}:role/{self.name('function')}",
                Code={"ZipFile": archive.getvalue()}, Environment={"Variables": variables},
            )  # fmt: skip
        self("lambda").add_permission(
            FunctionName=self.name("function-bad"),
            StatementId="world",
            Action="lambda:InvokeFunction",
            Principal="*",
        )

    def all(self) -> None:
        """Everything."""
        self.buckets()
        self.network()
        self.volumes()
        self.people()
        self.alarms()
        self.messages()
        self.data()
        self.functions()
