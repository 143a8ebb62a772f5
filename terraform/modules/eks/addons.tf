locals {
  # A node becomes ready when these run on it.
  node_addons = {
    eks-pod-identity-agent = null
    kube-proxy             = null
    vpc-cni                = jsonencode({ enableNetworkPolicy = "true" })
  }

  # coredns for names, metrics-server for the autoscaling of ingest.
  cluster_addons = ["coredns", "metrics-server"]
}

# The default for this version of Kubernetes, at each apply. Without a version, the first one would stay.
data "aws_eks_addon_version" "this" {
  for_each = toset(concat(keys(local.node_addons), local.cluster_addons, ["aws-ebs-csi-driver"]))

  addon_name         = each.key
  kubernetes_version = var.kubernetes_version
}

resource "aws_eks_addon" "node" {
  for_each = local.node_addons

  cluster_name         = aws_eks_cluster.this.name
  addon_name           = each.key
  addon_version        = data.aws_eks_addon_version.this[each.key].version
  configuration_values = each.value

  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  tags = var.tags
}

resource "aws_eks_addon" "cluster" {
  for_each = toset(local.cluster_addons)

  cluster_name  = aws_eks_cluster.this.name
  addon_name    = each.key
  addon_version = data.aws_eks_addon_version.this[each.key].version

  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  tags = var.tags

  depends_on = [aws_eks_node_group.this]
}

module "ebs_csi_identity" {
  source = "../pod-identity"

  name            = "${var.name}-ebs-csi"
  cluster_name    = aws_eks_cluster.this.name
  namespace       = "kube-system"
  service_account = "ebs-csi-controller-sa"
  policy_arns = {
    driver = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
  }
  tags = var.tags
}

# For volumes of Prometheus and Alertmanager. EKS creates no default storage class.
resource "aws_eks_addon" "ebs_csi" {
  cluster_name         = aws_eks_cluster.this.name
  addon_name           = "aws-ebs-csi-driver"
  addon_version        = data.aws_eks_addon_version.this["aws-ebs-csi-driver"].version
  configuration_values = jsonencode({ defaultStorageClass = { enabled = true } })

  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  tags = var.tags

  depends_on = [aws_eks_node_group.this, module.ebs_csi_identity]
}
