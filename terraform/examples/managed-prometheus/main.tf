# The Prometheus of the cluster also writes to Amazon Managed Prometheus, which has the alert rules.
provider "aws" {
  region = "eu-central-1"
}

module "embedding_drift" {
  source = "../.."

  api_access_cidrs   = var.api_access_cidrs
  managed_prometheus = true
  rules_directory    = "${path.root}/../../../rendered"

  # The service account of the chart kube-prometheus-stack, for the release "monitoring".
  prometheus_service_account = {
    namespace = "monitoring"
    name      = "monitoring-kube-prometheus-prometheus"
  }

  tags = { Environment = "production" }
}
