variable "name" {
  description = "Name of the server."
  type        = string
}

variable "postgres_version" {
  description = "Major version of PostgreSQL. A higher one upgrades the server at once."
  type        = string
}

variable "instance_class" {
  description = "Instance class, such as db.m7g.large."
  type        = string
}

variable "storage_gib" {
  description = "Initial storage, in GiB."
  type        = number
}

variable "max_storage_gib" {
  description = "Maximum to which the storage grows by itself, in GiB."
  type        = number
}

variable "multi_az" {
  description = "Whether a standby in another zone takes over if the zone of the server fails."
  type        = bool
}

variable "backup_retention_days" {
  description = "Number of past days to which the server can be restored, to the second."
  type        = number
}

variable "deletion_protection" {
  description = "Whether the server is protected from deletion."
  type        = bool
}

variable "final_snapshot" {
  description = "Whether a last snapshot is made when the server is deleted."
  type        = bool
}

variable "password_rotation_days" {
  description = "Days after which RDS changes the password."
  type        = number
}

variable "log_retention_days" {
  description = "Retention of the server's logs, in days."
  type        = number
}

variable "vpc_id" {
  description = "VPC of the server."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the server, in two zones or more."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids must be two or more: RDS needs subnets in two zones."
  }
}

variable "client_security_group_id" {
  description = "Security group whose members may connect."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts storage, backups, performance data and the password."
  type        = string
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
