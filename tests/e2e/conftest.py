"""One running product for all end-to-end tests; each test has a project of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.product import Product, running


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder: Path = tmp_path_factory.mktemp("product")
    with running(folder / "data") as started:
        yield started
