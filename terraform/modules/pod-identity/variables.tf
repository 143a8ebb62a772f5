variable "name" {
  description = "Name of the role."
  type        = string
}

variable "cluster_name" {
  description = "Name of the EKS cluster."
  type        = string
}

variable "namespace" {
  description = "Namespace of the service account."
  type        = string
}

variable "service_account" {
  description = "Service account whose pods get the role."
  type        = string
}

variable "policy_arns" {
  description = "Managed policies of the role. The keys are free names."
  type        = map(string)
  default     = {}
}

variable "statements" {
  description = "Statements of the role's own policy, in the format of IAM."
  type = list(object({
    Effect   = string
    Action   = list(string)
    Resource = list(string)
  }))
  default = []
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
