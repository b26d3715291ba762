"""Starts aws-api-mcp-server without its download: run by that server's own interpreter, by path.

At its start the server fetches an index of services from the internet and refuses to run where it cannot.
It looks there only for operations that the list in its own package does not know; with an empty index those
count as writing, so its read-only mode fails closed.
"""

from awslabs.aws_api_mcp_server import server
from awslabs.aws_api_mcp_server.core.metadata import (
    read_only_operations_list,
)

if __name__ == "__main__":
    read_only_operations_list.ServiceReferenceUrlsByService = dict
    server.main()
