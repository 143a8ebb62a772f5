mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                = "drift"
  kubernetes_version  = "1.35"
  subnet_ids          = ["subnet-1", "subnet-2"]
  public_access_cidrs = ["203.0.113.7/32"]
  node_instance_types = ["m7i.large"]
  min_nodes           = 3
  max_nodes           = 6
  kms_key_arn         = "arn:aws:kms:eu-central-1:111122223333:key/2b3c"
  log_retention_days  = 365
}

run "the_api_is_open_to_those_named" {
  module {
    source = "./modules/eks"
  }

  assert {
    condition = (
      aws_eks_cluster.this.vpc_config[0].endpoint_public_access &&
      aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["203.0.113.7/32"])
    )
    error_message = "kubectl works only from the configured blocks"
  }
}

run "the_api_stays_inside_when_nobody_is_named" {
  command = plan
  variables {
    public_access_cidrs = []
  }
  module {
    source = "./modules/eks"
  }

  assert {
    condition = (
      !aws_eks_cluster.this.vpc_config[0].endpoint_public_access &&
      aws_eks_cluster.this.vpc_config[0].endpoint_private_access
    )
    error_message = "the API server has no public endpoint"
  }
}

run "pods_get_their_own_identity_not_the_nodes" {
  module {
    source = "./modules/eks"
  }

  assert {
    condition     = contains(keys(aws_eks_addon.node), "eks-pod-identity-agent")
    error_message = "pod identity needs its agent on every node"
  }
  assert {
    condition     = aws_launch_template.node.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "a pod cannot use the role of its node"
  }
}

run "network_policies_are_enforced" {
  command = plan
  module {
    source = "./modules/eks"
  }

  assert {
    condition     = jsondecode(aws_eks_addon.node["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "without this, a NetworkPolicy has no effect"
  }
}

run "addons_follow_the_version_of_kubernetes" {
  module {
    source = "./modules/eks"
  }

  assert {
    condition = alltrue([
      for addon in concat(values(aws_eks_addon.node), values(aws_eks_addon.cluster), [aws_eks_addon.ebs_csi]) :
      addon.addon_version == "v1.2.3-eksbuild.4"
    ])
    error_message = "an apply updates each add-on to the default of EKS for this version"
  }
  assert {
    condition     = alltrue([for found in data.aws_eks_addon_version.this : found.kubernetes_version == "1.35"])
    error_message = "the default is asked for by the version of Kubernetes"
  }
}

run "refuses_the_whole_internet_and_a_single_zone" {
  command = plan
  variables {
    subnet_ids          = ["subnet-1"]
    public_access_cidrs = ["0.0.0.0/0"]
    max_nodes           = 2
  }
  module {
    source = "./modules/eks"
  }

  expect_failures = [
    var.subnet_ids,
    var.public_access_cidrs,
    var.max_nodes,
  ]
}
