"""What can be listed: how it is read, what is shown of it, and how the two languages call it.

One row of the table is one kind of thing. A command reads it, a JMESPath keeps what is shown, so that ten
thousand instances travel as ten thousand short rows.
"""
# One row of a table is one line, or one pair of texts: rows are read side by side.
# ruff: noqa: E501

import re
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
EC2_PAGE = 500
_NAME = "Tags[?Key=='Name']|[0].Value"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing."""

    names: tuple[str, str]  # Korean, English
    command: str  # without region
    rows: str  # JMESPath of its rows, each {column: value}
    columns: tuple[str, ...]  # in the order in which they are shown; the first identifies
    is_global: bool = False
    ids: str = ""  # option that takes an id, for what has ids
    pattern: str = ""  # of such an id


# fmt: off
KINDS: dict[str, Kind] = {
    "ec2": Kind(("EC2 인스턴스", "EC2 instances"), "ec2 describe-instances",
        f"Reservations[].Instances[].{{id:InstanceId,name:{_NAME},type:InstanceType,state:State.Name,public_ip:PublicIpAddress,launched:LaunchTime}}",
        ("id", "name", "type", "state", "public_ip", "launched"), ids="--instance-ids", pattern=r"i-[0-9a-f]{8,17}"),
    "ebs": Kind(("EBS 볼륨", "EBS volumes"), "ec2 describe-volumes",
        f"Volumes[].{{id:VolumeId,name:{_NAME},size_gib:Size,type:VolumeType,state:State,encrypted:Encrypted}}",
        ("id", "name", "size_gib", "type", "state", "encrypted"), ids="--volume-ids", pattern=r"vol-[0-9a-f]{8,17}"),
    "snapshot": Kind(("EBS 스냅샷", "EBS snapshots"), "ec2 describe-snapshots --owner-ids self",
        "Snapshots[].{id:SnapshotId,volume:VolumeId,size_gib:VolumeSize,state:State,started:StartTime}",
        ("id", "volume", "size_gib", "state", "started"), ids="--snapshot-ids", pattern=r"snap-[0-9a-f]{8,17}"),
    "security_group": Kind(("보안 그룹", "security groups"), "ec2 describe-security-groups",
        "SecurityGroups[].{id:GroupId,name:GroupName,vpc:VpcId,open_ports:IpPermissions[?IpRanges[?CidrIp=='0.0.0.0/0']||Ipv6Ranges[?CidrIpv6=='::/0']].FromPort}",
        ("id", "name", "vpc", "open_ports"), ids="--group-ids", pattern=r"sg-[0-9a-f]{8,17}"),
    "vpc": Kind(("VPC", "VPCs"), "ec2 describe-vpcs",
        f"Vpcs[].{{id:VpcId,name:{_NAME},cidr:CidrBlock,default:IsDefault,state:State}}",
        ("id", "name", "cidr", "default", "state"), ids="--vpc-ids", pattern=r"vpc-[0-9a-f]{8,17}"),
    "subnet": Kind(("서브넷", "subnets"), "ec2 describe-subnets",
        f"Subnets[].{{id:SubnetId,name:{_NAME},vpc:VpcId,cidr:CidrBlock,zone:AvailabilityZone}}",
        ("id", "name", "vpc", "cidr", "zone"), ids="--subnet-ids", pattern=r"subnet-[0-9a-f]{8,17}"),
    "s3": Kind(("S3 버킷", "S3 buckets"), "s3api list-buckets",
        "Buckets[].{name:Name,created:CreationDate}", ("name", "created"), is_global=True),
    "iam": Kind(("IAM 사용자", "IAM users"), "iam list-users",
        "Users[].{name:UserName,created:CreateDate,password_last_used:PasswordLastUsed}",
        ("name", "created", "password_last_used"), is_global=True),
    "rds": Kind(("RDS 인스턴스", "RDS instances"), "rds describe-db-instances",
        "DBInstances[].{id:DBInstanceIdentifier,engine:Engine,version:EngineVersion,class:DBInstanceClass,state:DBInstanceStatus,multi_az:MultiAZ,encrypted:StorageEncrypted,public:PubliclyAccessible}",
        ("id", "engine", "version", "class", "state", "multi_az", "encrypted", "public")),
    "lambda": Kind(("Lambda 함수", "Lambda functions"), "lambda list-functions",
        "Functions[].{name:FunctionName,runtime:Runtime,memory_mb:MemorySize,timeout_s:Timeout,modified:LastModified}",
        ("name", "runtime", "memory_mb", "timeout_s", "modified")),
    "dynamodb": Kind(("DynamoDB 테이블", "DynamoDB tables"), "dynamodb list-tables",
        "TableNames[].{name:@}", ("name",)),
    "elb": Kind(("로드 밸런서", "load balancers"), "elbv2 describe-load-balancers",
        "LoadBalancers[].{name:LoadBalancerName,type:Type,scheme:Scheme,state:State.Code,dns:DNSName}",
        ("name", "type", "scheme", "state", "dns")),
    "elasticache": Kind(("ElastiCache 복제 그룹", "ElastiCache replication groups"), "elasticache describe-replication-groups",
        "ReplicationGroups[].{id:ReplicationGroupId,status:Status,encrypted:AtRestEncryptionEnabled}",
        ("id", "status", "encrypted")),
    "ecs": Kind(("ECS 클러스터", "ECS clusters"), "ecs list-clusters", "clusterArns[].{arn:@}", ("arn",)),
    "eks": Kind(("EKS 클러스터", "EKS clusters"), "eks list-clusters", "clusters[].{name:@}", ("name",)),
    "ecr": Kind(("ECR 리포지토리", "ECR repositories"), "ecr describe-repositories",
        "repositories[].{name:repositoryName,created:createdAt,mutability:imageTagMutability}",
        ("name", "created", "mutability")),
    "efs": Kind(("EFS 파일 시스템", "EFS file systems"), "efs describe-file-systems",
        "FileSystems[].{id:FileSystemId,name:Name,state:LifeCycleState,encrypted:Encrypted}",
        ("id", "name", "state", "encrypted")),
    "kms": Kind(("KMS 키", "KMS keys"), "kms list-keys", "Keys[].{id:KeyId,arn:KeyArn}", ("id", "arn")),
    "acm": Kind(("ACM 인증서", "ACM certificates"), "acm list-certificates",
        "CertificateSummaryList[].{domain:DomainName,status:Status,expires:NotAfter,arn:CertificateArn}",
        ("domain", "status", "expires", "arn")),
    "sqs": Kind(("SQS 대기열", "SQS queues"), "sqs list-queues", "QueueUrls[].{url:@}", ("url",)),
    "sns": Kind(("SNS 주제", "SNS topics"), "sns list-topics", "Topics[].{arn:TopicArn}", ("arn",)),
    "secretsmanager": Kind(("보안 암호(이름만)", "secrets (names only)"), "secretsmanager list-secrets",
        "SecretList[].{name:Name,changed:LastChangedDate,rotation:RotationEnabled}", ("name", "changed", "rotation")),
    "cloudfront": Kind(("CloudFront 배포", "CloudFront distributions"), "cloudfront list-distributions",
        "DistributionList.Items[].{id:Id,domain:DomainName,status:Status}", ("id", "domain", "status"), is_global=True),
    "route53": Kind(("Route 53 호스팅 영역", "Route 53 hosted zones"), "route53 list-hosted-zones",
        "HostedZones[].{name:Name,id:Id,records:ResourceRecordSetCount}", ("name", "id", "records"), is_global=True),
    "api_gateway": Kind(("API Gateway REST API", "API Gateway REST APIs"), "apigateway get-rest-apis",
        "items[].{id:id,name:name,created:createdDate}", ("id", "name", "created")),
    "cloudtrail": Kind(("CloudTrail 추적", "CloudTrail trails"), "cloudtrail describe-trails",
        "trailList[].{name:Name,home:HomeRegion,multi_region:IsMultiRegionTrail,bucket:S3BucketName}",
        ("name", "home", "multi_region", "bucket")),
    "cloudwatch": Kind(("CloudWatch 알람", "CloudWatch alarms"), "cloudwatch describe-alarms",
        "MetricAlarms[].{name:AlarmName,state:StateValue,metric:MetricName,updated:StateUpdatedTimestamp}",
        ("name", "state", "metric", "updated")),
    "log_groups": Kind(("로그 그룹", "log groups"), "logs describe-log-groups",
        "logGroups[].{name:logGroupName,retention_days:retentionInDays,stored_bytes:storedBytes}",
        ("name", "retention_days", "stored_bytes")),
    "opensearch": Kind(("OpenSearch 도메인", "OpenSearch domains"), "opensearch list-domain-names",
        "DomainNames[].{name:DomainName}", ("name",)),
    "redshift": Kind(("Redshift 클러스터", "Redshift clusters"), "redshift describe-clusters",
        "Clusters[].{id:ClusterIdentifier,type:NodeType,state:ClusterStatus,encrypted:Encrypted}",
        ("id", "type", "state", "encrypted")),
}
# fmt: on

_BY_ID = tuple((re.compile(kind.pattern), name) for name, kind in KINDS.items() if kind.pattern)
_ARN_SERVICES = {"elasticloadbalancing": "elb", "es": "opensearch", "elasticfilesystem": "efs"}


def kind_of(resource: str | None, text: str) -> str | None:
    """Name of the kind that `resource` (an id, ARN, name or service) is of; `text` is the folded question."""
    if resource is None:
        return None
    if resource in KINDS:
        return _finer(resource, text)
    for pattern, name in _BY_ID:
        if pattern.search(resource):
            return name
    if resource.startswith("arn:"):
        service = resource.split(":")[2]
        service = _ARN_SERVICES.get(service, service)
        return service if service in KINDS else None
    words = {"버킷": "s3", "bucket": "s3", "함수": "lambda", "function": "lambda", "데이터베이스": "rds"}
    words |= {
        "database": "rds",
        "테이블": "dynamodb",
        "table": "dynamodb",
        "알람": "cloudwatch",
        "alarm": "cloudwatch",
    }
    return next((kind for word, kind in words.items() if word in text), None)


def _finer(service: str, text: str) -> str:
    """Where one word of a question tells two kinds of a service apart."""
    if service == "vpc" and re.search(r"subnet|서브넷", text):
        return "subnet"
    if service == "ebs" and re.search(r"snapshot|스냅샷", text):
        return "snapshot"
    return service


@dataclass(frozen=True, slots=True)
class Condition:
    """What a question asks of the rows, by a column."""

    words: re.Pattern[str]
    column: str
    value: object  # that the column has; "*" where it must hold anything
    names: tuple[str, str]


CONDITIONS: tuple[Condition, ...] = (
    Condition(
        re.compile(r"암호화\s*(?:안|되지|하지|가\s*안)|미암호화|unencrypted|not encrypted|without encryption"),
        "encrypted", False, ("암호화되지 않은 것", "not encrypted"),
    ),
    Condition(re.compile(r"실행\s*중|가동\s*중|running(?! out)"), "state", "running", ("실행 중", "running")),
    Condition(re.compile(r"중지된|정지된|멈춘|꺼진|stopped"), "state", "stopped", ("중지됨", "stopped")),
    Condition(
        re.compile(r"0\.0\.0\.0/0|전체\s*(?:공개|개방)|열려|열린|open to (?:the )?(?:world|internet|everyone)|open security"),
        "open_ports", "*", ("인터넷에 열린 것", "open to the internet"),
    ),
    Condition(re.compile(r"안\s*쓰는|미사용|붙어\s*있지|unused|unattached"), "state", "available", ("사용하지 않는 것", "not in use")),
    Condition(re.compile(r"퍼블릭|공개|public(?:ly)?"), "public", True, ("공개", "public")),
)  # fmt: skip


def conditions(kind: Kind, text: str) -> tuple[Condition, ...]:
    """What `text` (folded) asks of rows of `kind`, as far as their columns tell."""
    return tuple(one for one in CONDITIONS if one.column in kind.columns and one.words.search(text))


def holds(condition: Condition, row: Json) -> bool:
    """Whether `row` is asked for."""
    value = row.get(condition.column)
    return bool(value) if condition.value == "*" else value == condition.value


def command(kind: Kind, region: str, resource: str | None) -> str:
    """The command that lists `kind` in `region`; with an id, that one alone."""
    found = re.search(kind.pattern, resource) if kind.pattern and resource else None
    only = f" {kind.ids} {found[0]}" if found else ""
    if kind.command.startswith("ec2 ") and not found:
        only = f" --page-size {EC2_PAGE}"  # else EC2 answers with everything at once
    query = kind.rows.replace('"', "")
    return f'aws {kind.command}{only} --region {region} --query "{query}"'
