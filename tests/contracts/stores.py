"""The three object stores as the contract suites get them; S3 is the sandbox's, started once per session."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from fairlead.kernel.objects import ObjectStore, open_objects
from fairlead.kernel.toolenv import ToolOffline
from tests.sandbox_service import start_sandbox
from tests.services import missing

BUCKET = "fairlead-contract"


@contextmanager
def running_s3() -> Iterator[str]:
    """URL of an S3 that holds nothing but an empty `BUCKET`."""
    with (
        tempfile.TemporaryDirectory(prefix="fairlead-s3-") as folder,
        _explained(),
        start_sandbox(Path(folder)) as sandbox,
    ):
        httpx2.put(f"{sandbox.endpoint_url}/{BUCKET}", timeout=60).raise_for_status()
        yield sandbox.endpoint_url


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except ToolOffline as error:
        missing(f"the sandbox ({error.message})")


def s3_store(endpoint: str, bucket: str = BUCKET) -> ObjectStore:
    """A store with a prefix of its own."""
    return open_objects(
        f"s3://{bucket}/{uuid.uuid4().hex}",
        endpoint_url=endpoint,
        region="us-east-1",
        access_key_id="AKIATESTKEY",
        secret_access_key=SecretStr("hunter2hunter2"),
    )


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of the session's S3."""
    with running_s3() as endpoint:
        yield endpoint


@pytest.fixture(params=["memory", "folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store, once for each kind."""
    if request.param == "memory":
        return open_objects("memory://")
    if request.param == "folder":
        return open_objects((tmp_path / "objects").as_uri())
    return s3_store(request.getfixturevalue("s3_endpoint"))
