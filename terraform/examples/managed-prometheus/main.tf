# Samples of the cluster's Prometheus kept in Amazon Managed Prometheus, with our rules.
provider "aws" {
  region = "eu-central-1"
}

module "embedding_drift" {
  source = "../.."

  api_access_cidrs   = var.api_access_cidrs
  managed_prometheus = true
  rules_directory    = "${path.root}/../../../rendered"

  # The account that the chart kube-prometheus-stack makes, released as "monitoring".
  prometheus_service_account = {
    namespace = "monitoring"
    name      = "monitoring-kube-prometheus-prometheus"
  }

  tags = { Environment = "production" }
}
