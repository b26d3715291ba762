"""Logs and metrics: what is written, and what never is."""

import json
import logging
import urllib.request
from collections.abc import Iterator

import pytest
import structlog

from fairlead.kernel import telemetry


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was, for the tests that follow."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_a_field_named_like_a_secret_is_never_written(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(level="info", form="json")
    telemetry.log.info("test.event", password="hunter2", client_token="abc", nested_secret="hunter2")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["client_token"]) == ("test.event", "abc")
    assert "hunter2" not in json.dumps(line)


def test_a_worker_shows_its_metrics_on_loopback() -> None:
    telemetry.count("fairlead_test_total", labels={"outcome": "ok"})
    with telemetry.serving_metrics(0) as port:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    assert 'fairlead_test_total{outcome="ok"} 1.0' in text
