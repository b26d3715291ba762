"""Facts of AWS's API models from the first bytes of botocore's files.

MiniStack parses all 438 models when a request names a service it does not know (nine seconds), and a
whole model (tens of megabytes in memory) to learn the content type of an answer. Only the head is needed.
"""

import gzip
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import botocore
from ministack.core import responses, router

_DATA = Path(botocore.__file__).parent / "data"
_HEAD_BYTES = 8192


class Head:
    """As much of a service model as content types need."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        self.metadata = metadata


@lru_cache(maxsize=512)
def metadata(service: str) -> dict[str, Any] | None:
    """The `metadata` member of the newest model of `service`; None where it is not to be found."""
    files = sorted((_DATA / service).glob("*/service-2.json.gz"))
    if not files:
        return None
    with gzip.open(files[-1], "rb") as stream:
        text = stream.read(_HEAD_BYTES).decode("utf-8", "ignore")
    start = text.find('"metadata":')
    try:
        found = json.JSONDecoder().raw_decode(text, text.index("{", start))[0]
    except ValueError:
        return None
    return found if start >= 0 and isinstance(found, dict) else None


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    names = set()
    for folder in _DATA.iterdir():
        if folder.is_dir():
            head = metadata(folder.name) or {}
            names |= {folder.name, head.get("endpointPrefix", ""), head.get("signingName", "")}
    return frozenset(names - {""})


def install() -> None:
    """Let MiniStack ask here. Once per process."""
    whole: Callable[[str], Any] = responses._service_model

    @lru_cache(maxsize=512)
    def service_model(service: str) -> Any:
        head = metadata(responses._BOTOCORE_NAME.get(service, service))
        return Head(head) if head else whole(service)

    responses._service_model = service_model
    router._is_aws_service_name = lambda name: name in _names()
