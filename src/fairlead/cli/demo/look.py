# mypy: ignore-errors
"""Asks the services themselves whether the demo's resources are there and as they should be.

Runs by itself in an environment with botocore, and imports nothing of Fairlead: it is the
independent witness. Arguments: endpoint URL, account id, JSON of identifiers by logical id. Prints
`[[logical id, question, expected, found], ...]`.
"""

import json
import sys

import botocore.session

REGION = "us-east-1"


def main() -> None:
    endpoint, account, ids = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    session = botocore.session.get_session()

    def ask(service, operation, **arguments):
        client = session.create_client(
            service,
            region_name=REGION,
            endpoint_url=endpoint,
            aws_access_key_id=account,
            aws_secret_access_key="sandbox",
        )
        try:
            return getattr(client, operation)(**arguments)
        except Exception as error:  # a resource that is not there is an answer too
            return {"error": type(error).__name__}

    def dig(answer, *path):
        for part in path:
            try:
                answer = answer[part]
            except (KeyError, IndexError, TypeError):
                return None
        return answer

    vpc = ask("ec2", "describe_vpcs", VpcIds=[ids["Vpc"]])
    subnets = ask("ec2", "describe_subnets", SubnetIds=[ids["SubnetA"], ids["SubnetB"]])
    group = ask("ec2", "describe_security_groups", GroupIds=[ids["WebSecurityGroup"]])
    server = ask("ec2", "describe_instances", InstanceIds=[ids["WebServer"]])
    old = ask("ec2", "describe_instances", InstanceIds=[ids["old WebServer"]])
    mail = ask("sqs", "get_queue_attributes", QueueUrl=ids["Mail"], AttributeNames=["All"])
    dead = ask("sqs", "get_queue_attributes", QueueUrl=ids["DeadLetters"], AttributeNames=["All"])
    role = ask("iam", "get_role", RoleName=ids["WorkerRole"])
    policy = ask("iam", "get_role_policy", RoleName=ids["WorkerRole"], PolicyName="read-uploads")
    function = ask("lambda", "get_function_configuration", FunctionName=ids["Worker"])
    database = ask("rds", "describe_db_instances", DBInstanceIdentifier=ids["Database"])
    topics = ask("sns", "list_topics")
    alarm = ask("cloudwatch", "describe_alarms", AlarmNames=[ids["QueueAlarm"]])
    versioning = ask("s3", "get_bucket_versioning", Bucket=ids["Uploads"])
    table = ask("dynamodb", "describe_table", TableName=ids["Orders"])
    parameter = ask("ssm", "get_parameter", Name=ids["DatabaseAddress"])
    logs = ask("logs", "describe_log_groups", logGroupNamePrefix=ids["WorkerLogs"])

    instance = dig(server, "Reservations", 0, "Instances", 0) or {}
    host = dig(database, "DBInstances", 0, "Endpoint", "Address")
    dead_arn = dig(dead, "Attributes", "QueueArn")
    redrive = json.loads(dig(mail, "Attributes", "RedrivePolicy") or "{}")
    state = dig(old, "Reservations", 0, "Instances", 0, "State", "Name")
    ports = sorted(rule.get("FromPort", 0) for rule in dig(group, "SecurityGroups", 0, "IpPermissions") or [])
    zones = sorted(dig(subnet, "AvailabilityZone") for subnet in dig(subnets, "Subnets") or [])

    rows = [
        ["Vpc", "address block", "10.20.0.0/16", dig(vpc, "Vpcs", 0, "CidrBlock")],
        ["SubnetA, SubnetB", "zones", ["us-east-1a", "us-east-1b"], zones],
        ["WebSecurityGroup", "open ports", [22, 443], ports],
        ["WebServer", "image (replaced)", "ami-0d1bf5b68307103c2", instance.get("ImageId")],
        ["WebServer", "subnet", ids["SubnetA"], instance.get("SubnetId")],
        ["old WebServer", "gone", True, state in (None, "terminated", "shutting-down")],
        ["Mail", "visibility (updated)", "60", dig(mail, "Attributes", "VisibilityTimeout")],
        ["Mail", "dead letters go to", dead_arn, redrive.get("deadLetterTargetArn")],
        [
            "WorkerRole",
            "trusts",
            "lambda.amazonaws.com",
            _trusted(dig(role, "Role", "AssumeRolePolicyDocument")),
        ],
        ["WorkerPolicy", "on the role", "read-uploads", dig(policy, "PolicyName")],
        ["Worker", "role", dig(role, "Role", "Arn"), dig(function, "Role")],
        ["Worker", "table", ids["Orders"], dig(function, "Environment", "Variables", "TABLE")],
        ["Database", "class", "db.t3.medium", dig(database, "DBInstances", 0, "DBInstanceClass")],
        [
            "DatabaseAddress",
            "holds the address",
            True,
            bool(host) and str(dig(parameter, "Parameter", "Value")).startswith(host),
        ],
        ["Uploads", "versioning", "Enabled", dig(versioning, "Status")],
        ["Orders", "key", "id", dig(table, "Table", "KeySchema", 0, "AttributeName")],
        ["WorkerLogs", "days kept", 30, dig(logs, "logGroups", 0, "retentionInDays")],
        ["Alerts", "topics (deleted)", [], dig(topics, "Topics")],
        [
            "QueueAlarm",
            "watches (added)",
            "ApproximateAgeOfOldestMessage",
            dig(alarm, "MetricAlarms", 0, "MetricName"),
        ],
    ]
    print(json.dumps(rows, default=str))


def _trusted(document):
    if isinstance(document, str):
        document = json.loads(document)
    return document["Statement"][0]["Principal"]["Service"] if document else None


if __name__ == "__main__":
    main()
