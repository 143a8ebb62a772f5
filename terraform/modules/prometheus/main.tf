resource "aws_prometheus_workspace" "this" {
  alias       = var.name
  kms_key_arn = var.kms_key_arn

  tags = var.tags
}

resource "aws_prometheus_rule_group_namespace" "this" {
  for_each = var.rules

  workspace_id = aws_prometheus_workspace.this.id
  name         = each.key
  data         = each.value

  tags = var.tags
}
