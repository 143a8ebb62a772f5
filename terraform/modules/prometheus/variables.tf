variable "name" {
  description = "Alias of the workspace."
  type        = string
}

variable "rules" {
  description = "Texts of the rule files, by the namespace of each in the workspace."
  type        = map(string)
}

variable "kms_key_arn" {
  description = "Key that encrypts the samples."
  type        = string
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
