"""What a change costs per month, from a dated table and without a network. Unknown is never zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fairlead.changes.model import Cost, Properties
from fairlead.changes.prices import Prices, prices
from fairlead.changes.types.traits import FREE, USAGE_BASED

HOURS_PER_MONTH = 730

_USAGE = "usage-based"
_NO_PRICE = "not in the price table"


Pricer = Callable[[Properties, Prices], float | None]


def monthly_usd(type_name: str, properties: Properties, region: str) -> tuple[float | None, str | None]:
    """Price per month of one resource and, where it is None, why. Unresolved values make it unknown."""
    if type_name in FREE:
        return 0.0, None
    if type_name in USAGE_BASED:
        return None, _USAGE
    pricer = _PRICERS.get(type_name)
    if pricer is None:
        return None, _NO_PRICE
    table = prices(region)
    if table is None:
        return None, f"region {region} is not in the price table"
    try:
        price = pricer(properties, table)
    except (TypeError, ValueError, ArithmeticError):
        return None, "depends on values that are not known yet"
    if price is None:
        by_request = properties.get("BillingMode") == "PAY_PER_REQUEST"
        return None, _USAGE if by_request else _NO_PRICE
    return round(price, 4), None


def change_cost(
    type_before: str, before: Properties | None, type_after: str, after: Properties | None, region: str
) -> Cost:
    """Cost of one resource before and after a change; None as properties means that it is not there."""
    was, why_was = (0.0, None) if before is None else monthly_usd(type_before, before, region)
    will, why_will = (0.0, None) if after is None else monthly_usd(type_after, after, region)
    table = prices(region)
    return Cost(
        before_usd=was,
        after_usd=will,
        source=table.source if table else None,
        as_of=table.as_of if table else None,
        note=why_will or why_was,
    )


def plan_cost(costs: Mapping[str, Cost], region: str) -> Cost:
    """Sum of what is known, None where nothing is; ids of unknown price are listed in `unknown`."""
    known = [c for c in costs.values() if c.before_usd is not None and c.after_usd is not None]
    unknown = tuple(sorted(name for name, c in costs.items() if c.before_usd is None or c.after_usd is None))
    table = prices(region)
    nothing = bool(unknown) and not known
    return Cost(
        before_usd=None if nothing else _sum(c.before_usd for c in known),
        after_usd=None if nothing else _sum(c.after_usd for c in known),
        source=table.source if table else None,
        as_of=table.as_of if table else None,
        note=f"without {len(unknown)} of unknown price" if unknown else None,
        unknown=unknown,
    )


def delta_usd(cost: Cost) -> float | None:
    """What the month costs more (or less); None when either side is unknown."""
    if cost.before_usd is None or cost.after_usd is None:
        return None
    return round(cost.after_usd - cost.before_usd, 4)


def _sum(values: Iterable[float | None]) -> float:
    return round(sum(value for value in values if value is not None), 4)


def _number(value: Any, default: float) -> float:
    """A count or size; `default` where it is absent. Raises for what is not a number (yet)."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value is None or value in ("true", "false"):
        return bool(value == "true")
    raise TypeError


def _volume(volume: Mapping[str, Any], table: Prices) -> float | None:
    kind = volume.get("VolumeType") or "gp2"
    per_gb = table.monthly["ebs_gb"].get(kind)
    if per_gb is None or volume.get("Size", volume.get("VolumeSize")) is None:
        return None  # made from a snapshot: its size is not in the template
    price = float(per_gb) * _number(volume.get("Size", volume.get("VolumeSize")), 0)
    included = 3000.0 if kind == "gp3" else 0.0
    iops = max(0.0, _number(volume.get("Iops"), 0) - included)
    throughput = max(0.0, _number(volume.get("Throughput"), 0) - 125) if kind == "gp3" else 0.0
    return (
        price
        + iops * float(table.monthly["ebs_iops"].get(kind, 0))
        + throughput * float(table.monthly["ebs_gp3_mibps"])
    )


def _instance(properties: Properties, table: Prices) -> float | None:
    """Linux, shared tenancy, and the volumes that name their size."""
    hourly = table.hourly["ec2"].get(properties.get("InstanceType"))
    if hourly is None or properties.get("Tenancy", "default") != "default":
        return None
    volumes = [m.get("Ebs") for m in properties.get("BlockDeviceMappings") or () if m.get("Ebs")]
    extra = [_volume(v, table) for v in volumes if v.get("VolumeSize") is not None]
    known = [price for price in extra if price is not None]
    return float(hourly) * HOURS_PER_MONTH + sum(known) if len(known) == len(extra) else None


_RDS_ENGINES = {"mysql": "rds_mysql", "mariadb": "rds_mysql", "postgres": "rds_postgres"}


def _database(properties: Properties, table: Prices) -> float | None:
    classes = _RDS_ENGINES.get(str(properties.get("Engine", "")).lower())
    hourly = table.hourly[classes].get(properties.get("DBInstanceClass")) if classes else None
    storage = properties.get("StorageType") or "gp2"
    per_gb = table.monthly["rds_gb"].get(storage)
    if hourly is None or per_gb is None or properties.get("AllocatedStorage") is None:
        return None
    monthly = float(hourly) * HOURS_PER_MONTH + float(per_gb) * _number(properties["AllocatedStorage"], 0)
    monthly += _number(properties.get("Iops"), 0) * float(table.monthly["rds_iops"].get(storage, 0))
    return monthly * (2 if _flag(properties.get("MultiAZ")) else 1)


def _cache_nodes(properties: Properties, table: Prices, nodes: float) -> float | None:
    if str(properties.get("Engine", "redis")).lower() not in ("redis", "memcached"):
        return None
    hourly = table.hourly["elasticache"].get(properties.get("CacheNodeType"))
    return None if hourly is None else float(hourly) * HOURS_PER_MONTH * nodes


def _cache_cluster(properties: Properties, table: Prices) -> float | None:
    return _cache_nodes(properties, table, _number(properties.get("NumCacheNodes"), 1))


def _replication_group(properties: Properties, table: Prices) -> float | None:
    if properties.get("NumCacheClusters") is not None:
        return _cache_nodes(properties, table, _number(properties["NumCacheClusters"], 1))
    shards = _number(properties.get("NumNodeGroups"), 1)
    return _cache_nodes(properties, table, shards * (1 + _number(properties.get("ReplicasPerNodeGroup"), 0)))


def _table(properties: Properties, table: Prices) -> float | None:
    if properties.get("BillingMode") == "PAY_PER_REQUEST":
        return None
    indexes = properties.get("GlobalSecondaryIndexes") or []
    per_hour = 0.0
    for throughput in [owner.get("ProvisionedThroughput") for owner in (properties, *indexes)]:
        if throughput is None:
            return None
        per_hour += _number(throughput.get("ReadCapacityUnits"), 0) * float(
            table.hourly["dynamodb_read_unit"]
        )
        per_hour += _number(throughput.get("WriteCapacityUnits"), 0) * float(
            table.hourly["dynamodb_write_unit"]
        )
    return per_hour * HOURS_PER_MONTH


def _load_balancer(properties: Properties, table: Prices) -> float | None:
    """Hours only: capacity units depend on traffic."""
    kind = properties.get("Type") or "application"
    name = {
        "application": "load_balancer",
        "network": "load_balancer",
        "gateway": "gateway_load_balancer",
    }.get(kind)
    return None if name is None else float(table.hourly[name]) * HOURS_PER_MONTH


def _alarm(properties: Properties, table: Prices) -> float | None:
    if properties.get("Metrics"):
        return None  # billed per metric in the expression
    fast = _number(properties.get("Period"), 60) < 60
    return float(table.monthly["alarm_high_resolution" if fast else "alarm"])


def _endpoint(properties: Properties, table: Prices) -> float | None:
    kind = properties.get("VpcEndpointType") or "Gateway"
    if kind == "Gateway":
        return 0.0
    zones = len(properties.get("SubnetIds") or [0])
    return (
        float(table.hourly["interface_endpoint"]) * zones * HOURS_PER_MONTH if kind == "Interface" else None
    )


def _stream(properties: Properties, table: Prices) -> float | None:
    mode = properties.get("StreamModeDetails") or {}
    if mode.get("StreamMode") == "ON_DEMAND" or properties.get("ShardCount") is None:
        return None
    return _number(properties["ShardCount"], 1) * float(table.hourly["kinesis_shard"]) * HOURS_PER_MONTH


def _parameter(properties: Properties, table: Prices) -> float | None:
    return float(table.monthly["advanced_parameter"]) if properties.get("Tier") == "Advanced" else 0.0


def _per_hour(name: str) -> Pricer:
    return lambda _, table: float(table.hourly[name]) * HOURS_PER_MONTH


def _per_month(name: str) -> Pricer:
    return lambda _, table: float(table.monthly[name])


_PRICERS: Mapping[str, Pricer] = {
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::DynamoDB::Table": _table,
    "AWS::EC2::EIP": _per_hour("public_ipv4"),
    "AWS::EC2::Instance": _instance,
    "AWS::EC2::NatGateway": _per_hour("nat_gateway"),
    "AWS::EC2::TransitGatewayAttachment": _per_hour("transit_gateway_attachment"),
    "AWS::EC2::Volume": _volume,
    "AWS::EC2::VPCEndpoint": _endpoint,
    "AWS::EKS::Cluster": _per_hour("eks_cluster"),
    "AWS::ElastiCache::CacheCluster": _cache_cluster,
    "AWS::ElastiCache::ReplicationGroup": _replication_group,
    "AWS::ElasticLoadBalancing::LoadBalancer": _per_hour("classic_load_balancer"),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": _load_balancer,
    "AWS::KMS::Key": _per_month("kms_key"),
    "AWS::Kinesis::Stream": _stream,
    "AWS::RDS::DBInstance": _database,
    "AWS::Route53::HostedZone": _per_month("hosted_zone"),
    "AWS::SSM::Parameter": _parameter,
    "AWS::SecretsManager::Secret": _per_month("secret"),
}
