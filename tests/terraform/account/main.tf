# What moto can make of terraform/main.tf: all modules but the cluster and the identities of its pods.
# A security group stands in for the cluster's.
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "testing"
  secret_key                  = "testing"
  skip_credentials_validation = true
  skip_requesting_account_id  = false
}

locals {
  name  = "embedding-drift"
  tags  = { Application = local.name }
  rules = fileset("${path.module}/../rendered", "*.rules.yaml")
}

variable "slack_webhook" {
  type      = string
  default   = null
  ephemeral = true
}

resource "aws_kms_key" "this" {
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_security_group" "cluster" {
  name        = "cluster"
  description = "The cluster"
  vpc_id      = module.network.vpc_id
}

module "network" {
  source = "../terraform/modules/network"

  name               = local.name
  cidr               = "10.0.0.0/16"
  availability_zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
  single_nat_gateway = false
  tags               = local.tags
}

module "database" {
  source = "../terraform/modules/database"

  name                     = local.name
  postgres_version         = "17"
  instance_class           = "db.m7g.large"
  storage_gib              = 100
  max_storage_gib          = 1000
  multi_az                 = true
  backup_retention_days    = 14
  deletion_protection      = false
  final_snapshot           = false
  password_rotation_days   = 90
  log_retention_days       = 365
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.database_subnet_ids
  client_security_group_id = aws_security_group.cluster.id
  kms_key_arn              = aws_kms_key.this.arn
  tags                     = local.tags
}

module "registry" {
  source = "../terraform/modules/registry"

  name        = local.name
  kms_key_arn = aws_kms_key.this.arn
  tags        = local.tags
}

module "slack_webhook" {
  source = "../terraform/modules/secrets"

  name          = "${local.name}/slack-webhook"
  description   = "URL of Slack's incoming webhook, for Alertmanager"
  value         = var.slack_webhook
  value_version = 1
  kms_key_arn   = aws_kms_key.this.arn
  tags          = local.tags
}

module "prometheus" {
  source = "../terraform/modules/prometheus"

  name        = local.name
  rules       = { for file in local.rules : trimsuffix(file, ".rules.yaml") => file("${path.module}/../rendered/${file}") }
  kms_key_arn = aws_kms_key.this.arn
  tags        = local.tags
}

output "vpc_id" {
  value = module.network.vpc_id
}

output "secret_arn" {
  value = module.slack_webhook.arn
}
