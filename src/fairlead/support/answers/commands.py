"""Which AWS CLI commands may leave: a closed list of reads, none of which answers with a secret or contents.

A list of what is forbidden would grow holes. Whoever writes the command, a model or a plan, passes here; what
the account's role allows is the second boundary, the server's own read-only mode the third.
"""

import re
import shlex

from fairlead.kernel.errors import FairleadError

MAX_CHARACTERS = 2_000
REGION = re.compile(r"[a-z]{2}(?:-[a-z]+){1,3}-\d{1,2}")

# Service → operations, as a regular expression for the whole name.
_READS: dict[str, str] = {
    "acm": r"list-certificates|describe-certificate",
    "apigateway": r"get-rest-apis?|get-stages?|get-domain-names?",
    "apigatewayv2": r"get-apis?|get-stages?|get-domain-names?",
    "autoscaling": r"describe-(auto-scaling-(groups|instances)|scaling-activities|policies|lifecycle-hooks)",
    "backup": r"list-(backup-plans|backup-vaults|protected-resources|recovery-points-by-backup-vault)",
    "cloudformation": r"list-stacks|describe-(stacks|stack-resources|stack-events)",
    "cloudfront": r"list-distributions|get-distribution",
    "cloudtrail": r"describe-trails|list-trails|get-trail|get-trail-status|get-event-selectors|lookup-events",
    "cloudwatch": r"describe-(alarms|alarm-history|alarms-for-metric|anomaly-detectors)"
    r"|list-(metrics|dashboards)|get-metric-statistics",
    "configservice": r"describe-(config-rules|configuration-recorders|compliance-by-config-rule)",
    "dynamodb": r"list-tables|list-backups|describe-(table|continuous-backups|time-to-live|limits)",
    "ec2": r"describe-(account-attributes|addresses|availability-zones|customer-gateways|dhcp-options"
    r"|egress-only-internet-gateways|flow-logs|hosts|images|instance-status|instance-types|instances"
    r"|internet-gateways|key-pairs|managed-prefix-lists|nat-gateways|network-acls|network-interfaces"
    r"|placement-groups|prefix-lists|regions|reserved-instances|route-tables|security-group-rules"
    r"|security-groups|snapshots|subnets|tags|transit-gateways|volume-status|volumes|volumes-modifications"
    r"|vpc-endpoints|vpc-peering-connections|vpcs)|get-ebs-encryption-by-default",
    "ecr": r"describe-(repositories|images|image-scan-findings)|list-images|get-lifecycle-policy",
    "ecs": r"list-(clusters|services|tasks|container-instances)"
    r"|describe-(clusters|services|tasks|container-instances)",
    "efs": r"describe-(file-systems|mount-targets|access-points|backup-policy|lifecycle-configuration)",
    "eks": r"list-(clusters|nodegroups|addons|fargate-profiles)|describe-(cluster|nodegroup|addon)",
    "elasticache": r"describe-(cache-clusters|replication-groups|snapshots|events)",
    "elb": r"describe-(load-balancers|instance-health|load-balancer-attributes)",
    "elbv2": r"describe-(load-balancers|listeners|rules|target-groups|target-health"
    r"|load-balancer-attributes|target-group-attributes)",
    "events": r"list-rules|list-event-buses|describe-rule",
    "guardduty": r"list-detectors|get-detector|list-findings|get-findings",
    "health": r"describe-events",
    "iam": r"list-(users|roles|groups|policies|access-keys|mfa-devices|attached-(user|role|group)-policies"
    r"|user-policies|role-policies|group-policies|groups-for-user|entities-for-policy|account-aliases"
    r"|instance-profiles|server-certificates|virtual-mfa-devices|user-tags|role-tags)"
    r"|get-(user|role|group|policy|policy-version|user-policy|role-policy|group-policy|account-summary"
    r"|account-password-policy|access-key-last-used|login-profile|instance-profile)",
    "kinesis": r"list-streams|describe-stream-summary",
    "kms": r"list-(keys|aliases)|describe-key|get-key-rotation-status|get-key-policy",
    "lambda": r"list-(functions|aliases|event-source-mappings|function-url-configs|layers)"
    r"|get-(function-configuration|policy|account-settings|function-concurrency|function-url-config)",
    "logs": r"describe-(log-groups|log-streams|metric-filters|subscription-filters)",
    "opensearch": r"list-domain-names|describe-domains?",
    "rds": r"describe-(db-instances|db-clusters|db-snapshots|db-cluster-snapshots|db-subnet-groups"
    r"|db-parameter-groups|events|pending-maintenance-actions|reserved-db-instances)",
    "redshift": r"describe-clusters",
    "resourcegroupstaggingapi": r"get-(resources|tag-keys|tag-values)",
    "route53": r"list-(hosted-zones|resource-record-sets|health-checks)|get-hosted-zone",
    "s3api": r"list-buckets|head-bucket|get-public-access-block|get-bucket-(acl|cors|encryption"
    r"|lifecycle-configuration|location|logging|notification-configuration|ownership-controls|policy"
    r"|policy-status|replication|tagging|versioning|website)",
    "s3control": r"get-public-access-block",
    "secretsmanager": r"list-secrets|describe-secret|get-resource-policy",
    "securityhub": r"get-findings|get-enabled-standards|describe-hub",
    "service-quotas": r"list-service-quotas|get-service-quota",
    "sns": r"list-topics|list-subscriptions|list-subscriptions-by-topic|get-topic-attributes",
    "sqs": r"list-queues|get-queue-attributes|get-queue-url",
    "ssm": r"describe-parameters|describe-instance-information",
    "stepfunctions": r"list-state-machines|describe-state-machine",
    "sts": r"get-caller-identity",
    "support": r"describe-trusted-advisor-(checks|check-summaries|check-result)",
    "wafv2": r"list-(web-acls|ip-sets|rule-groups)|get-web-acl",
}
# They change who asks, where, or what is sent, or read files of this machine.
_FORBIDDEN = (
    "--profile --endpoint-url --no-sign-request --no-verify-ssl --ca-bundle --debug --cli-input-json"
    " --cli-input-yaml --generate-cli-skeleton --cli-connect-timeout --cli-read-timeout"
    " --cli-binary-format --include-values --with-decryption --version --output --color"
)
_FORBIDDEN_OPTIONS = tuple(_FORBIDDEN.split())
_OPTION = re.compile(r"--[a-z][a-z0-9-]{0,60}")
_FILE = re.compile(r"(?:file|fileb|https?|s3)://", re.IGNORECASE)
_WHOLE = ("--region", "--query")  # never abbreviated: what they say is looked at

# Members of answers that hold secrets by nature or by habit: never asked for by name, and never shown.
SECRET_NAME = re.compile(
    r"(?i)(userdata|environment|variables|environmentvariables|customergatewayconfiguration|secretstring"
    r"|secretbinary|secretaccesskey|sessiontoken|plaintext|passworddata|authtoken|privatekey"
    r"|masteruserpassword|password|stagevariables)"
)
# A query decides under which names an answer arrives, and so whether a secret still bears its own: nothing in
# it may name one, drop names (`.*`, values) or turn members into text (to_string).
_QUERY_PART = re.compile(
    r"'[^']*'|`[^`]*`|\"(?P<quoted>[^\"]*)\"|(?P<name>[A-Za-z_]\w*)(?P<call>\s*\()?|\[\s*\*\s*\]"
    r"|(?P<wrong>[*'`\"])|."
)
_FUNCTIONS = (
    "abs avg ceil contains ends_with floor join keys length map max max_by merge min min_by not_null reverse"
    " sort sort_by starts_with sum to_array to_number type"
)
_QUERY_FUNCTIONS = frozenset(_FUNCTIONS.split())


class CommandRefused(FairleadError):
    """A command that is not one of the reads that may leave was refused before it left."""

    code, status, retryable = "support.command_refused", 403, False


def checked(command: str) -> tuple[str, str, str | None]:
    """(service, operation, region) of `command` where it may leave. Raises CommandRefused, which says why."""
    if len(command) > MAX_CHARACTERS or not command.isprintable():
        raise _refused("it is too long or holds characters that do not belong in a command")
    try:
        words = shlex.split(command)
    except ValueError:
        raise _refused("its quotes do not match") from None
    if len(words) < 3 or words[0] != "aws":
        raise _refused("it is not of the form: aws SERVICE OPERATION --name value")
    service, operation, rest = words[1], words[2], words[3:]
    if not re.fullmatch(_READS.get(service, r"(?!)"), operation):
        raise _refused(f"{service[:40]} {operation[:60]} is not one of the reads that are allowed")
    return service, operation, _options(rest)


def _options(words: list[str]) -> str | None:
    """The region that the options name. Raises CommandRefused."""
    region: str | None = None
    after = ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            _check_option(name)
            after = name
            if not equals:
                continue
            word = value  # noqa: PLW2901 - "--name=value" is "--name value"
        elif not after:
            raise _refused("it has words that belong to no option")
        if _FILE.search(word):
            raise _refused("it names a file or an address")
        if after == "--query":
            _check_query(word)
        if after == "--region":
            if not REGION.fullmatch(word):
                raise _refused(f"{word[:40]!r} is not a region")
            region = word
    return region


def _check_option(name: str) -> None:
    """Raises CommandRefused. Beginnings as well: the command line completes what is unambiguous."""
    if not _OPTION.fullmatch(name) or any(one.startswith(name) for one in _FORBIDDEN_OPTIONS):
        raise _refused(f"the option {name[:40]} is not allowed")
    if name not in _WHOLE and any(one.startswith(name) for one in _WHOLE):
        raise _refused(f"the option {name[:40]} is not written out")


def _check_query(query: str) -> None:
    """Raises CommandRefused where `query` could make a secret out of what is shown."""
    if "\\" in query:  # what is quoted would end elsewhere than it seems
        raise _refused("its query holds a backslash")
    for part in _QUERY_PART.finditer(query):
        name = part["quoted"] or part["name"]
        if part["wrong"] or (part["call"] and name not in _QUERY_FUNCTIONS):
            raise _refused("its query uses what could show members without their names")
        if name and SECRET_NAME.fullmatch(name):
            raise _refused(f"its query names {name[:40]}, which may hold secrets")


def _refused(why: str) -> CommandRefused:
    return CommandRefused(
        f"The command was refused: {why}.", remedy="Ask for something that can be read with describe or list."
    )
