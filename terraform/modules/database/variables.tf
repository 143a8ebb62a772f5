variable "name" {
  description = "Name of the server."
  type        = string
}

variable "postgres_version" {
  description = "Major version of PostgreSQL."
  type        = string
}

variable "instance_class" {
  description = "Class of the instance, such as db.m7g.large."
  type        = string
}

variable "storage_gib" {
  description = "GiB of storage at first."
  type        = number
}

variable "max_storage_gib" {
  description = "GiB to which the storage grows by itself."
  type        = number
}

variable "multi_az" {
  description = "Whether a standby in another zone takes over when the server's zone fails."
  type        = bool
}

variable "backup_retention_days" {
  description = "Days back to which the server can be restored, to the second."
  type        = number
}

variable "deletion_protection" {
  description = "Whether the server refuses to be deleted."
  type        = bool
}

variable "final_snapshot" {
  description = "Whether the server leaves a last snapshot when it is deleted."
  type        = bool
}

variable "password_rotation_days" {
  description = "Days after which RDS changes the password."
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
    error_message = "subnet_ids are two or more: RDS wants subnets in two zones."
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
