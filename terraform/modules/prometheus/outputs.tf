output "arn" {
  description = "ARN of the workspace."
  value       = aws_prometheus_workspace.this.arn
}

output "remote_write_url" {
  description = "URL to which Prometheus writes samples, signed with SigV4."
  value       = "${aws_prometheus_workspace.this.prometheus_endpoint}api/v1/remote_write"
}
