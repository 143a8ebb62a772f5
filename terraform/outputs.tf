output "hand_over" {
  description = "Shell script that configures kubectl and creates the secrets of the monitor: terraform output -raw hand_over | sh"
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

output "database_egress" {
  description = "Values of the Helm chart that limit outgoing connections of the monitor to the database."
  value = yamlencode({
    networkPolicy = {
      databaseTo = [for block in module.network.database_cidr_blocks : { ipBlock = { cidr = block } }]
    }
  })
}

output "repository_url" {
  description = "ECR repository for the image of the monitor."
  value       = module.registry.repository_url
}

output "database_secret_arn" {
  description = "Secret with user name and password of the database. RDS stores and rotates it."
  value       = module.database.secret_arn
}

output "slack_webhook_secret_arn" {
  description = "Secret with the URL of Slack's incoming webhook."
  value       = module.slack_webhook.arn
}

output "remote_write_url" {
  description = "URL to which a Prometheus in the cluster writes; null without managed_prometheus."
  value       = one(module.prometheus[*].remote_write_url)
}
