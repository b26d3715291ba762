"""EKS: who can reach a cluster, its logs and its secrets."""

from collections.abc import AsyncIterator

from fairlead.support.collect import Reads, details
from fairlead.support.hazards import is_world
from fairlead.support.model import Severity
from fairlead.support.screenings.builtin.checks import Check, Item, Service, Source, Verdict, item, unless

CLUSTER = "AWS::EKS::Cluster"
_LOGS = ("api", "audit", "authenticator")


async def clusters(reads: Reads) -> AsyncIterator[Item]:
    """Clusters."""

    async def look(name: str) -> Item:
        about = await reads.fact("eks", "describe_cluster", lambda a: a["cluster"], name=name)
        return item(reads, CLUSTER, reads.arn("eks", f"cluster/{name}"), {"Cluster": about}, name=name)

    async for found in details(reads.pages("eks", "list_clusters", "clusters"), look):
        yield found


def public_endpoint(cluster: Item) -> Verdict:
    """The API is private, or open to named addresses only."""
    config = cluster["Cluster"]["resourcesVpcConfig"]
    blocks = [block for block in config.get("publicAccessCidrs") or ("0.0.0.0/0",) if is_world(block)]
    opened = bool(config["endpointPublicAccess"]) and bool(blocks)
    return unless(opened, "The API answers the whole internet.")


def control_logs(cluster: Item) -> Verdict:
    """API, audit and authenticator logs are on."""
    entries = (cluster["Cluster"].get("logging") or {}).get("clusterLogging") or ()
    enabled = {kind for entry in entries if entry.get("enabled") for kind in entry.get("types", ())}
    missing = [kind for kind in _LOGS if kind not in enabled]
    return unless(bool(missing), f"Off: {', '.join(missing)}.")


def secrets_encrypted(cluster: Item) -> Verdict:
    """Secrets of Kubernetes are wrapped with a KMS key."""
    wrapped = [
        e for e in cluster["Cluster"].get("encryptionConfig") or () if "secrets" in e.get("resources", ())
    ]
    return unless(not wrapped, "Secrets are not encrypted with a KMS key of your own.")


SERVICE = Service(
    name="eks",
    reference="https://docs.aws.amazon.com/eks/latest/best-practices/security.html",
    sources=(
        Source(
            kind=CLUSTER,
            collect=clusters,
            checks=(
                Check(
                    id="eks.cluster_public_endpoint",
                    title="Cluster API answers the whole internet",
                    severity=Severity.HIGH,
                    judge=public_endpoint,
                    why="Stolen credentials or a hole in the API server work from anywhere.",
                    fix="Make the endpoint private, or name the blocks that may reach it.",
                ),
                Check(
                    id="eks.cluster_logs",
                    title="Cluster does not log its control plane",
                    severity=Severity.MEDIUM,
                    judge=control_logs,
                    why="After an incident nobody can say who did what in the cluster.",
                    fix="Turn on the logs api, audit and authenticator.",
                    pillars=("security", "operational-excellence"),
                ),
                Check(
                    id="eks.cluster_secrets",
                    title="Secrets of the cluster are not encrypted with a key of your own",
                    severity=Severity.LOW,
                    judge=secrets_encrypted,
                    why="Use of a key of AWS can be neither watched nor withdrawn.",
                    fix="Associate an encryption configuration with a KMS key.",
                ),
            ),
        ),
    ),
)
