output "address" {
  description = "Host name of the server."
  value       = aws_db_instance.this.address
}

output "name" {
  description = "Name of the database."
  value       = aws_db_instance.this.db_name
}

output "secret_arn" {
  description = "Secret with user name and password. RDS stores and rotates it."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}
