locals {
  zones = slice(sort(data.aws_availability_zones.regional.names), 0, var.zones)
  tags  = merge({ Application = var.name }, var.tags)
  rules = {
    for file in fileset(var.rules_directory, "*.rules.yaml") :
    trimsuffix(file, ".rules.yaml") => file("${var.rules_directory}/${file}")
  }
}

data "aws_region" "current" {}

# In any state: a failing zone must not move the subnets to another zone. EKS has no control plane in
# the three excluded zones.
data "aws_availability_zones" "regional" {
  all_availability_zones = true
  exclude_zone_ids       = ["cac1-az3", "use1-az3", "usw1-az2"]

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

# One key for all data at rest. It has the default policy of AWS: IAM of this account decides.
resource "aws_kms_key" "this" {
  description             = "Data of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  tags = local.tags
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this.key_id
}

module "network" {
  source = "./modules/network"

  name               = var.name
  cidr               = var.vpc_cidr
  availability_zones = local.zones
  single_nat_gateway = var.single_nat_gateway
  tags               = local.tags
}

module "eks" {
  source = "./modules/eks"

  name                = var.name
  kubernetes_version  = var.kubernetes_version
  subnet_ids          = module.network.private_subnet_ids
  public_access_cidrs = var.api_access_cidrs
  node_instance_types = var.node_instance_types
  min_nodes           = var.min_nodes
  max_nodes           = var.max_nodes
  kms_key_arn         = aws_kms_key.this.arn
  log_retention_days  = var.log_retention_days
  tags                = local.tags
}

module "database" {
  source = "./modules/database"

  name                     = var.name
  postgres_version         = var.postgres_version
  instance_class           = var.database_instance_class
  storage_gib              = var.database_storage_gib
  max_storage_gib          = var.database_max_storage_gib
  multi_az                 = var.database_multi_az
  backup_retention_days    = var.database_backup_retention_days
  deletion_protection      = var.database_deletion_protection
  final_snapshot           = var.database_final_snapshot
  password_rotation_days   = var.database_password_rotation_days
  log_retention_days       = var.log_retention_days
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.database_subnet_ids
  client_security_group_id = module.eks.security_group_id
  kms_key_arn              = aws_kms_key.this.arn
  tags                     = local.tags
}

module "registry" {
  source = "./modules/registry"

  name        = var.name
  kms_key_arn = aws_kms_key.this.arn
  tags        = local.tags
}

module "slack_webhook" {
  source = "./modules/secrets"

  name          = "${var.name}/slack-webhook"
  description   = "URL of Slack's incoming webhook, for Alertmanager"
  value         = var.slack_webhook
  value_version = var.slack_webhook_version
  kms_key_arn   = aws_kms_key.this.arn
  tags          = local.tags
}

module "external_secrets_identity" {
  source = "./modules/pod-identity"

  name            = "${var.name}-external-secrets"
  cluster_name    = module.eks.name
  namespace       = var.external_secrets_service_account.namespace
  service_account = var.external_secrets_service_account.name
  statements = [
    {
      Effect   = "Allow"
      Action   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
      Resource = [module.database.secret_arn, module.slack_webhook.arn]
    },
    {
      Effect   = "Allow"
      Action   = ["kms:Decrypt"]
      Resource = [aws_kms_key.this.arn]
    },
  ]
  tags = local.tags
}

module "prometheus" {
  source = "./modules/prometheus"
  count  = var.managed_prometheus ? 1 : 0

  name        = var.name
  rules       = local.rules
  kms_key_arn = aws_kms_key.this.arn
  tags        = local.tags
}

module "prometheus_identity" {
  source = "./modules/pod-identity"
  count  = var.managed_prometheus ? 1 : 0

  name            = "${var.name}-prometheus"
  cluster_name    = module.eks.name
  namespace       = var.prometheus_service_account.namespace
  service_account = var.prometheus_service_account.name
  statements = [{
    Effect   = "Allow"
    Action   = ["aps:RemoteWrite"]
    Resource = [module.prometheus[0].arn]
  }]
  tags = local.tags
}
