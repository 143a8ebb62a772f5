output "hand_over" {
  description = "Shell script that points kubectl at the cluster and gives it the monitor's secrets: terraform output -raw hand_over | sh"
  value = templatefile("${path.module}/hand-over.sh.tftpl", {
    region           = data.aws_region.current.name
    cluster          = module.eks.name
    namespace        = var.namespace
    database_address = module.database.address
    database_name    = module.database.name
    database_secret  = module.database.secret_arn
    slack_secret     = var.slack_webhook_version > 0 ? module.slack_webhook.arn : ""
  })
}

output "repository_url" {
  description = "Repository of ECR for the monitor's image."
  value       = module.registry.repository_url
}

output "database_secret_arn" {
  description = "Secret of the database's user name and password, which RDS keeps and rotates."
  value       = module.database.secret_arn
}

output "slack_webhook_secret_arn" {
  description = "Secret of Slack's incoming webhook."
  value       = module.slack_webhook.arn
}

output "remote_write_url" {
  description = "Where a Prometheus in the cluster writes to; null without managed_prometheus."
  value       = one(module.prometheus[*].remote_write_url)
}
