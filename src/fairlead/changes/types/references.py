"""What `Ref` and `Fn::GetAtt` give for a resource that exists.

`Ref` gives the primary identifier, except for the types below, where CloudFormation's own `Ref`
differs from the identifier that Cloud Control uses (AWS documents each on the page of its type).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fairlead.changes.model import Properties

if TYPE_CHECKING:
    from fairlead.changes.registry import ResourceType

MISSING: Final[Any] = object()
"""Stands for "there is no such value", since null is a value."""

REF: Mapping[str, str] = {
    # Types whose identifier has several parts, of which Ref gives one.
    "AWS::ApiGateway::Authorizer": "AuthorizerId",
    "AWS::ApiGateway::Deployment": "DeploymentId",
    "AWS::ApiGateway::DocumentationPart": "DocumentationPartId",
    "AWS::ApiGateway::Model": "Name",
    "AWS::ApiGateway::RequestValidator": "RequestValidatorId",
    "AWS::ApiGateway::Resource": "ResourceId",
    "AWS::ApiGateway::Stage": "StageName",
    "AWS::ApiGatewayV2::Authorizer": "AuthorizerId",
    "AWS::ApiGatewayV2::Deployment": "DeploymentId",
    "AWS::ApiGatewayV2::Integration": "IntegrationId",
    "AWS::ApiGatewayV2::Route": "RouteId",
    "AWS::ApiGatewayV2::Stage": "StageName",
    "AWS::AppConfig::ConfigurationProfile": "ConfigurationProfileId",
    "AWS::AppConfig::Environment": "EnvironmentId",
    "AWS::Cognito::UserPoolClient": "ClientId",
    "AWS::Cognito::UserPoolGroup": "GroupName",
    "AWS::Cognito::UserPoolUser": "Username",
    "AWS::EC2::EIP": "PublicIp",
    "AWS::ECS::Service": "ServiceArn",
    "AWS::Lambda::Permission": "Id",
    "AWS::Logs::LogStream": "LogStreamName",
    "AWS::Logs::MetricFilter": "FilterName",
    "AWS::Logs::SubscriptionFilter": "FilterName",
    # Types whose Ref is a name although the identifier is an ARN or an id.
    "AWS::Events::Rule": "RuleName",
    "AWS::IAM::Policy": "PolicyName",
}


def ref(type_name: str, kind: ResourceType | None, identifier: str, model: Properties) -> Any:
    """What `Ref` gives: text; MISSING when AWS has not told the part that it needs.

    `identifier` is the primary identifier as Cloud Control writes it, parts joined by `|`.
    """
    name = REF.get(type_name)
    if name is None:
        return identifier
    if name in model:
        return model[name]
    parts = kind.primary_identifier if kind else ()
    values = identifier.split("|")
    return values[parts.index(name)] if name in parts and len(values) == len(parts) else MISSING


def attribute(model: Properties, name: str) -> Any:
    """What `Fn::GetAtt` gives: the value at the dotted path `name` of the live model, or MISSING."""
    if name in model:
        return model[name]
    if name.startswith("Outputs.") and isinstance(model.get("Outputs"), list):
        return _stack_output(model["Outputs"], name.removeprefix("Outputs."))
    value: Any = model
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


def _stack_output(outputs: list[Any], key: str) -> Any:
    """A nested stack's output: its model lists them as `{OutputKey, OutputValue}`."""
    for output in outputs:
        if isinstance(output, Mapping) and output.get("OutputKey") == key:
            return output.get("OutputValue", MISSING)
    return MISSING
