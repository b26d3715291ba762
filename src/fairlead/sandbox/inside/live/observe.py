"""Alarms, log groups, web access control, state machines."""

from ministack.services import cloudwatch, cloudwatch_logs, stepfunctions, waf

from fairlead.sandbox.inside.live.kind import Kind, Model, picked, renamed, some, tag_list


def _alarm(key: str) -> Model | None:
    alarm = cloudwatch._alarms.get(key)
    if alarm is None:
        return None
    return some(
        AlarmName=key,
        Arn=alarm["AlarmArn"],
        **picked(alarm, "AlarmDescription", "MetricName", "Namespace", "Statistic", "ExtendedStatistic"),
        **picked(alarm, "Period", "EvaluationPeriods", "Threshold", "ComparisonOperator", "TreatMissingData"),
        **picked(alarm, "ActionsEnabled", "AlarmActions", "OKActions", "InsufficientDataActions"),
        **picked(alarm, "Dimensions", "Unit", "DatapointsToAlarm", "Metrics", "ThresholdMetricId"),
        Tags=tag_list(cloudwatch._resource_tags.get(alarm["AlarmArn"])),
    )


def _log_group(key: str) -> Model | None:
    group = cloudwatch_logs._log_groups.get(key)
    if group is None:
        return None
    return some(
        LogGroupName=key,
        **renamed(
            group,
            {
                "arn": "Arn",
                "retentionInDays": "RetentionInDays",
                "logGroupClass": "LogGroupClass",
                "kmsKeyId": "KmsKeyId",
            },
        ),
        Tags=tag_list(group.get("tags")),
    )


def _metric_filter(key: str) -> Model | None:
    group, _, name = key.partition("|")
    found = cloudwatch_logs._metric_filters.get((group, name))
    if found is None:
        return None
    names = {"metricName": "MetricName", "metricNamespace": "MetricNamespace", "metricValue": "MetricValue"}
    more = {"defaultValue": "DefaultValue", "unit": "Unit"}
    return {
        "LogGroupName": group,
        "FilterName": name,
        "FilterPattern": found.get("filterPattern", ""),
        "MetricTransformations": [renamed(item, names | more) for item in found["metricTransformations"]],
    }


def _waf_keys(store: object) -> list[str]:
    return [f"{item['Name']}|{item['Id']}|{item.get('Scope', 'REGIONAL')}" for item in store.values()]  # type: ignore[attr-defined]


def _waf_item(store: object, key: str) -> Model | None:
    parts = key.split("|")
    item: Model | None = store.get(parts[1]) if len(parts) == 3 else None  # type: ignore[attr-defined]
    return item if item and item["Name"] == parts[0] and item.get("Scope", "REGIONAL") == parts[2] else None


def _ip_set(key: str) -> Model | None:
    item = _waf_item(waf._ip_sets, key)
    if item is None:
        return None
    return some(
        **picked(item, "Name", "Id", "Scope", "Description", "IPAddressVersion"),
        Arn=item["ARN"],
        Tags=tag_list(waf._waf_tags.get(item["ARN"])),
    ) | {"Addresses": list(item.get("Addresses") or [])}


def _web_acl(key: str) -> Model | None:
    item = _waf_item(waf._web_acls, key)
    if item is None:
        return None
    return some(
        **picked(item, "Name", "Id", "Scope", "Description", "DefaultAction", "Rules", "VisibilityConfig"),
        Capacity=item.get("Capacity", 0),
        Arn=item["ARN"],
        Tags=tag_list(waf._waf_tags.get(item["ARN"])),
    )


def _state_machine(key: str) -> Model | None:
    machine = stepfunctions._state_machines.get(key)
    if machine is None:
        return None
    logging = machine.get("loggingConfiguration") or {}
    return some(
        Arn=key,
        Name=machine["name"],
        StateMachineName=machine["name"],
        DefinitionString=machine.get("definition"),
        RoleArn=machine.get("roleArn"),
        StateMachineType=machine.get("type"),
        StateMachineRevisionId=machine.get("revisionId"),
        LoggingConfiguration=renamed(
            logging, {"level": "Level", "includeExecutionData": "IncludeExecutionData"}
        ),
        Tags=tag_list(machine.get("tags")),
    )


KINDS = (
    Kind(type_name="AWS::CloudWatch::Alarm", keys=cloudwatch._alarms.keys, read=_alarm),
    Kind(type_name="AWS::Logs::LogGroup", keys=cloudwatch_logs._log_groups.keys, read=_log_group),
    Kind(
        type_name="AWS::Logs::MetricFilter",
        keys=lambda: [f"{group}|{name}" for group, name in cloudwatch_logs._metric_filters],
        read=_metric_filter,
        physical_of=lambda key: key.partition("|")[2],
        key_after=lambda physical, props: f"{props['LogGroupName']}|{physical}",
    ),
    Kind(type_name="AWS::WAFv2::IPSet", keys=lambda: _waf_keys(waf._ip_sets), read=_ip_set),
    Kind(
        type_name="AWS::WAFv2::WebACL",
        unique=("Name", "Scope"),
        keys=lambda: _waf_keys(waf._web_acls),
        read=_web_acl,
    ),
    Kind(
        type_name="AWS::StepFunctions::StateMachine",
        unique=("StateMachineName",),
        keys=stepfunctions._state_machines.keys,
        read=_state_machine,
    ),
)
