"""Clusters and image repositories."""

from ministack.services import ecr, ecs, eks

from fairlead.sandbox.inside.live.kind import Kind, Model, document, some, tag_list


def _cluster(key: str) -> Model | None:
    cluster = eks._clusters.get(key)
    if cluster is None:
        return None
    vpc = cluster.get("resourcesVpcConfig") or {}
    network = cluster.get("kubernetesNetworkConfig") or {}
    enabled = [
        {"Type": kind}
        for item in (cluster.get("logging") or {}).get("clusterLogging") or []
        if item.get("enabled")
        for kind in item["types"]
    ]
    return some(
        Name=key,
        Arn=cluster["arn"],
        Version=cluster.get("version"),
        RoleArn=cluster.get("roleArn"),
        Endpoint=cluster.get("endpoint"),
        CertificateAuthorityData=(cluster.get("certificateAuthority") or {}).get("data"),
        ClusterSecurityGroupId=vpc.get("clusterSecurityGroupId"),
        OpenIdConnectIssuerUrl=((cluster.get("identity") or {}).get("oidc") or {}).get("issuer"),
        ResourcesVpcConfig=some(
            SubnetIds=vpc.get("subnetIds"),
            SecurityGroupIds=vpc.get("securityGroupIds"),
            EndpointPublicAccess=vpc.get("endpointPublicAccess"),
            EndpointPrivateAccess=vpc.get("endpointPrivateAccess"),
            PublicAccessCidrs=vpc.get("publicAccessCidrs"),
        ),
        KubernetesNetworkConfig=some(
            ServiceIpv4Cidr=network.get("serviceIpv4Cidr"), IpFamily=network.get("ipFamily")
        ),
        Logging={"ClusterLogging": {"EnabledTypes": enabled}} if enabled else None,
        Tags=tag_list(eks._tags.get(cluster["arn"])),
    )


def _repository(key: str) -> Model | None:
    repository = ecr._repositories.get(key)
    if repository is None:
        return None
    encryption = repository.get("encryptionConfiguration") or {}
    lifecycle = ecr._lifecycle_policies.get(key)
    return some(
        RepositoryName=key,
        Arn=repository["repositoryArn"],
        RepositoryUri=repository["repositoryUri"],
        ImageTagMutability=repository.get("imageTagMutability"),
        ImageScanningConfiguration={
            "ScanOnPush": (repository.get("imageScanningConfiguration") or {}).get("scanOnPush", False)
        },
        EncryptionConfiguration=some(
            EncryptionType=encryption.get("encryptionType"), KmsKey=encryption.get("kmsKey")
        ),
        LifecyclePolicy={"LifecyclePolicyText": lifecycle} if lifecycle else None,
        RepositoryPolicyText=document(ecr._repo_policies.get(key)),
        Tags=tag_list(repository.get("tags")),
    )


def _ecs_cluster(key: str) -> Model | None:
    cluster = ecs._clusters.get(key)
    if cluster is None or cluster.get("status") == "INACTIVE":
        return None
    return some(
        ClusterName=key,
        Arn=cluster["clusterArn"],
        ClusterSettings=[
            {"Name": item["name"], "Value": item["value"]} for item in cluster.get("settings") or []
        ],
        CapacityProviders=cluster.get("capacityProviders"),
        Tags=tag_list(cluster.get("tags")),
    )


KINDS = (
    Kind(type_name="AWS::EKS::Cluster", keys=eks._clusters.keys, read=_cluster),
    Kind(type_name="AWS::ECR::Repository", keys=ecr._repositories.keys, read=_repository),
    Kind(type_name="AWS::ECS::Cluster", keys=ecs._clusters.keys, read=_ecs_cluster),
)
