"""What every contract suite can ask for."""

from tests.contracts.stores import objects, s3_endpoint

__all__ = ["objects", "s3_endpoint"]
