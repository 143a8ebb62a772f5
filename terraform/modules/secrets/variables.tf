variable "name" {
  description = "Name of the secret."
  type        = string
}

variable "description" {
  description = "What the secret holds."
  type        = string
}

variable "value" {
  description = "The secret. It is sent to Secrets Manager when value_version changes, and not stored in the state; null at other times."
  type        = string
  sensitive   = true
  ephemeral   = true
}

variable "value_version" {
  description = "Increase it to store the value again; 0 stores none."
  type        = number
}

variable "kms_key_arn" {
  description = "Key that encrypts the secret."
  type        = string
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
