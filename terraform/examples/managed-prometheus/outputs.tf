output "hand_over" {
  description = "Shell script for kubectl: terraform output -raw hand_over | sh"
  value       = module.embedding_drift.hand_over
}

output "remote_write_url" {
  description = "URL to which a Prometheus in the cluster writes."
  value       = module.embedding_drift.remote_write_url
}
