output "role_arn" {
  description = "ARN of the role that the service account's pods take."
  value       = aws_iam_role.this.arn
}
