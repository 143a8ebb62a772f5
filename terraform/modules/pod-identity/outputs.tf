output "role_arn" {
  description = "ARN of the role of the service account's pods."
  value       = aws_iam_role.this.arn
}
