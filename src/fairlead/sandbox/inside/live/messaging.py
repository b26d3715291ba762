"""Queues, topics, subscriptions, event rules."""

from ministack.services import eventbridge, sns, sqs

from fairlead.sandbox.inside.live.kind import Kind, Model, document, picked, some, tag_list

_QUEUE_NUMBERS = (
    "VisibilityTimeout",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "DelaySeconds",
    "ReceiveMessageWaitTimeSeconds",
    "KmsDataKeyReusePeriodSeconds",
)
_QUEUE_FLAGS = ("ContentBasedDeduplication", "SqsManagedSseEnabled")


def _queue(key: str) -> Model | None:
    queue = sqs._queues.get(key)
    if queue is None:
        return None
    attributes = queue["attributes"]
    return some(
        QueueUrl=key,
        QueueName=queue["name"],
        Arn=attributes["QueueArn"],
        FifoQueue=True if queue.get("is_fifo") else None,
        **{name: int(attributes[name]) for name in _QUEUE_NUMBERS if name in attributes},
        **{name: attributes[name] == "true" for name in _QUEUE_FLAGS if name in attributes},
        **picked(attributes, "KmsMasterKeyId", "DeduplicationScope", "FifoThroughputLimit"),
        RedrivePolicy=document(attributes.get("RedrivePolicy")),
        RedriveAllowPolicy=document(attributes.get("RedriveAllowPolicy")),
        Tags=tag_list(queue.get("tags")),
    )


def _topic(key: str) -> Model | None:
    topic = sns._topics.get(key)
    if topic is None:
        return None
    attributes = topic["attributes"]
    flags = {
        name: True for name in ("FifoTopic", "ContentBasedDeduplication") if attributes.get(name) == "true"
    }
    return some(
        TopicArn=key,
        TopicName=topic["name"],
        DisplayName=attributes.get("DisplayName"),
        **picked(attributes, "KmsMasterKeyId", "SignatureVersion", "TracingConfig", "FifoThroughputScope"),
        **flags,
        ArchivePolicy=document(attributes.get("ArchivePolicy")),
        Subscription=[
            {"Protocol": item["protocol"], "Endpoint": item["endpoint"]} for item in topic["subscriptions"]
        ],
        Tags=tag_list(topic.get("tags")),
    )


def _subscription(key: str) -> Model | None:
    topic = sns._topics.get(sns._sub_arn_to_topic.get(key, ""))
    for item in (topic or {}).get("subscriptions", []):
        if item["arn"] == key:
            attributes = item["attributes"]
            return some(
                Arn=key,
                TopicArn=item["topic_arn"],
                Protocol=item["protocol"],
                Endpoint=item["endpoint"],
                RawMessageDelivery=_flag(attributes.get("RawMessageDelivery")),
                **{
                    name: document(attributes.get(name))
                    for name in ("FilterPolicy", "DeliveryPolicy", "RedrivePolicy", "ReplayPolicy")
                },
                FilterPolicyScope=attributes.get("FilterPolicyScope")
                if attributes.get("FilterPolicy")
                else None,
                SubscriptionRoleArn=attributes.get("SubscriptionRoleArn"),
            )
    return None


def _flag(text: str | None) -> bool | None:
    return None if text is None else text == "true"


def _rule_key(identifier: str) -> str:
    """Key of a rule's ARN (`…:rule/name` on the default bus, `…:rule/bus/name` elsewhere)."""
    bus, _, name = identifier.partition(":rule/")[2].rpartition("/")
    return f"{bus or 'default'}|{name}"


def _rule(key: str) -> Model | None:
    rule = eventbridge._rules.get(key)
    if rule is None:
        return None
    return some(
        Arn=rule["Arn"],
        Name=rule["Name"],
        RuleName=rule["Name"],
        **picked(rule, "EventBusName", "State", "Description", "ScheduleExpression", "RoleArn"),
        EventPattern=document(rule.get("EventPattern")),
        Targets=[dict(target) for target in eventbridge._targets.get(key) or []],
        Tags=tag_list(eventbridge._tags.get(rule["Arn"])),
    )


def _bus(key: str) -> Model | None:
    bus = eventbridge._event_buses.get(key)
    if bus is None:
        return None
    return some(
        **picked(bus, "Name", "Arn", "Description"),
        Policy=eventbridge._event_bus_policies.get(key),
        Tags=tag_list(eventbridge._tags.get(bus["Arn"])),
    )


KINDS = (
    Kind(type_name="AWS::SQS::Queue", unique=("QueueName",), keys=sqs._queues.keys, read=_queue),
    Kind(type_name="AWS::SNS::Topic", unique=("TopicName",), keys=sns._topics.keys, read=_topic),
    Kind(type_name="AWS::SNS::Subscription", keys=sns._sub_arn_to_topic.keys, read=_subscription),
    Kind(
        type_name="AWS::Events::Rule",
        unique=("Name", "EventBusName"),
        keys=eventbridge._rules.keys,
        read=_rule,
        key_of=_rule_key,
        physical_of=lambda key: key.rpartition("|")[2],
        key_after=lambda physical, props: f"{_bus_name(props)}|{physical.rpartition('|')[2]}",
    ),
    Kind(type_name="AWS::Events::EventBus", keys=eventbridge._event_buses.keys, read=_bus),
)


def _bus_name(props: Model) -> str:
    return str(props.get("EventBusName") or "default").rpartition("/")[2]
