output "hand_over" {
  description = "Shell script for kubectl: terraform output -raw hand_over | sh"
  value       = module.embedding_drift.hand_over
}
