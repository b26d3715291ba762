"""What is hazardous wherever it is found: the internet as a source, ports to keep closed, old runtimes."""

import ipaddress
from collections.abc import Iterable
from typing import Any

ADMIN_PORTS = (22, 3389)
DATABASE_PORTS = (1433, 1521, 3306, 5432, 5439, 6379, 9200, 11211, 27017)
# Without security updates; AWS moves dates, so only those are named whose day is long past.
OLD_RUNTIMES = frozenset(
    {
        "dotnet5.0",
        "dotnet6",
        "dotnet7",
        "dotnetcore1.0",
        "dotnetcore2.0",
        "dotnetcore2.1",
        "dotnetcore3.1",
        "go1.x",
        "java8",
        "nodejs",
        "nodejs4.3",
        "nodejs4.3-edge",
        "nodejs6.10",
        "nodejs8.10",
        "nodejs10.x",
        "nodejs12.x",
        "nodejs14.x",
        "nodejs16.x",
        "nodejs18.x",
        "provided",
        "python2.7",
        "python3.6",
        "python3.7",
        "python3.8",
        "python3.9",
        "ruby2.5",
        "ruby2.7",
    }
)


def is_world(cidr: str) -> bool:
    """Whether a block is the internet, or a half of it: two halves are a known way around such checks."""
    try:
        return ipaddress.ip_network(cidr, strict=False).prefixlen <= 1
    except ValueError:
        return False


def world_rules(permissions: Iterable[dict[str, Any]]) -> list[tuple[str, int, int, str]]:
    """(protocol, first port, last port, block) of every inbound rule that is open to the internet."""
    found = []
    for permission in permissions:
        protocol = str(permission.get("IpProtocol", "-1"))
        whole = protocol == "-1" or permission.get("FromPort") in (None, -1)
        first, last = (0, 65535) if whole else (permission["FromPort"], permission["ToPort"])
        blocks = [str(block.get("CidrIp")) for block in permission.get("IpRanges") or ()]
        blocks += [str(block.get("CidrIpv6")) for block in permission.get("Ipv6Ranges") or ()]
        found += [(protocol, first, last, block) for block in blocks if is_world(block)]
    return found
