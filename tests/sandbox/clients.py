"""boto3 on a sandbox: native clients, Cloud Control with waiting, the admin endpoints."""

import functools
import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

DEADLINE_S = 60.0


@functools.lru_cache(maxsize=256)
def _client(service: str, endpoint: str, region: str, account: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=account,
        aws_secret_access_key="sandbox",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60, connect_timeout=30),
    )


class Aws:
    """One account's view of a sandbox."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.endpoint: str = settings["endpoint_url"]
        self.region: str = settings["region_name"]
        self.account: str = settings["aws_access_key_id"]

    def client(self, service: str) -> Any:
        return _client(service, self.endpoint, self.region, self.account)

    @property
    def cloudcontrol(self) -> Any:
        return self.client("cloudcontrol")

    # Cloud Control ------------------------------------------------------------------------------

    def wait(self, event: dict[str, Any]) -> dict[str, Any]:
        """The final event of a request."""
        deadline = time.monotonic() + DEADLINE_S
        while event["OperationStatus"] == "IN_PROGRESS":
            assert time.monotonic() < deadline, event
            token = event["RequestToken"]
            event = self.cloudcontrol.get_resource_request_status(RequestToken=token)["ProgressEvent"]
        return event

    def ask_create(self, type_name: str, desired: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = self.cloudcontrol.create_resource(
            TypeName=type_name, DesiredState=json.dumps(desired), **more
        )
        return dict(answer["ProgressEvent"])

    def create(self, type_name: str, desired: dict[str, Any], **more: Any) -> str:
        event = self.wait(self.ask_create(type_name, desired, **more))
        assert event["OperationStatus"] == "SUCCESS", event
        return str(event["Identifier"])

    def failed_create(self, type_name: str, desired: dict[str, Any]) -> dict[str, Any]:
        event = self.wait(self.ask_create(type_name, desired))
        assert event["OperationStatus"] == "FAILED", event
        return event

    def get(self, type_name: str, identifier: str) -> dict[str, Any]:
        answer = self.cloudcontrol.get_resource(TypeName=type_name, Identifier=identifier)
        return dict(json.loads(answer["ResourceDescription"]["Properties"]))

    def update(self, type_name: str, identifier: str, *patch: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = self.cloudcontrol.update_resource(
            TypeName=type_name, Identifier=identifier, PatchDocument=json.dumps(patch), **more
        )
        return self.wait(answer["ProgressEvent"])

    def delete(self, type_name: str, identifier: str, **more: Any) -> dict[str, Any]:
        answer = self.cloudcontrol.delete_resource(TypeName=type_name, Identifier=identifier, **more)
        return self.wait(answer["ProgressEvent"])

    def identifiers(self, type_name: str) -> list[str]:
        pages = self.cloudcontrol.get_paginator("list_resources").paginate(TypeName=type_name)
        return [item["Identifier"] for page in pages for item in page["ResourceDescriptions"]]

    # Admin --------------------------------------------------------------------------------------

    def admin(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.endpoint).netloc, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def faults(self, *faults: dict[str, Any]) -> None:
        status, answer = self.admin("PUT", "/_fairlead/faults", {"faults": faults})
        assert status == 200, answer

    def requests(self) -> list[dict[str, Any]]:
        """Requests of this account, oldest first."""
        found: list[dict[str, Any]] = self.admin("GET", "/_fairlead/requests")[1]["requests"]
        return [request for request in found if request["account"] == self.account]


def replace(path: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def remove(path: str) -> dict[str, Any]:
    return {"op": "remove", "path": path}
