variable "name" {
  description = "Alias of the workspace."
  type        = string
}

variable "rules" {
  description = "Rule files: their text by the namespace each becomes."
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
