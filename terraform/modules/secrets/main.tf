resource "aws_secretsmanager_secret" "this" {
  name        = var.name
  description = var.description
  kms_key_id  = var.kms_key_arn

  tags = var.tags
}

resource "aws_secretsmanager_secret_version" "this" {
  count = var.value_version > 0 ? 1 : 0

  secret_id = aws_secretsmanager_secret.this.id
  # Only a new version sends the value, but the provider always wants one. AWS refuses an empty one.
  secret_string_wo         = var.value == null ? "" : var.value
  secret_string_wo_version = var.value_version

  lifecycle {
    # Otherwise a refused value would leave the state without a version.
    create_before_destroy = true
  }
}
