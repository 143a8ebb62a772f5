variable "name" {
  description = "Name of the cluster and of the database, and prefix of all other names."
  type        = string
  default     = "embedding-drift"
  nullable    = false

  validation {
    condition     = length(var.name) <= 30 && can(regex("^[a-z](-?[a-z0-9])+$", var.name))
    error_message = "name must be 2 to 30 lower-case letters, digits and single hyphens, start with a letter, and not end with a hyphen."
  }
}

variable "api_access_cidrs" {
  description = "IPv4 blocks from which kubectl may reach the cluster, such as [\"203.0.113.7/32\"]; [] allows access from inside the VPC only."
  type        = list(string)
  nullable    = false

  validation {
    condition = alltrue([
      for cidr in var.api_access_cidrs : can(cidrnetmask(cidr)) && !endswith(cidr, "/0")
    ])
    error_message = "api_access_cidrs must be a list of IPv4 blocks such as 203.0.113.7/32; the whole Internet (/0) is not allowed."
  }
}

variable "vpc_cidr" {
  description = "IPv4 block of the VPC, /16 to /20."
  type        = string
  default     = "10.0.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && can(regex("/(1[6-9]|20)$", var.vpc_cidr))
    error_message = "vpc_cidr must be an IPv4 block of size /16 to /20, such as 10.0.0.0/16."
  }
}

variable "zones" {
  description = "Number of availability zones to use, 2 or 3."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = contains([2, 3], var.zones)
    error_message = "zones must be 2 or 3: EKS and RDS need two, and the VPC has address space for three."
  }
}

variable "single_nat_gateway" {
  description = "Whether all zones share one NAT gateway: cheaper, but its zone is a single point of failure."
  type        = bool
  default     = false
  nullable    = false
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes. EKS upgrades by one at a time."
  type        = string
  default     = "1.35"
  nullable    = false

  validation {
    condition     = can(regex("^1\\.(3[0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version must be a minor version from 1.30 to 1.39, such as 1.35."
  }
}

variable "node_instance_types" {
  description = "EC2 instance types of the cluster's nodes, x86-64."
  type        = list(string)
  default     = ["m7i.large"]
  nullable    = false

  validation {
    condition     = length(var.node_instance_types) > 0
    error_message = "node_instance_types must name at least one instance type."
  }
}

variable "min_nodes" {
  description = "Initial and minimum number of nodes."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.min_nodes >= 1 && floor(var.min_nodes) == var.min_nodes
    error_message = "min_nodes must be a whole number, 1 or more."
  }
}

variable "max_nodes" {
  description = "Maximum number of nodes, for a cluster autoscaler."
  type        = number
  default     = 6
  nullable    = false

  validation {
    condition     = var.max_nodes >= var.min_nodes && floor(var.max_nodes) == var.max_nodes
    error_message = "max_nodes must be a whole number, min_nodes or more."
  }
}

variable "postgres_version" {
  description = "Major version of PostgreSQL. A higher one upgrades the database during the apply."
  type        = string
  default     = "17"
  nullable    = false

  validation {
    condition     = contains(["15", "16", "17", "18"], var.postgres_version)
    error_message = "postgres_version must be a major version from 15 to 18."
  }
}

variable "database_instance_class" {
  description = "Instance class of the database."
  type        = string
  default     = "db.m7g.large"
  nullable    = false

  validation {
    condition     = can(regex("^db\\.[a-z0-9-]+\\.[a-z0-9]+$", var.database_instance_class))
    error_message = "database_instance_class must be an instance class of RDS, such as db.m7g.large."
  }
}

variable "database_storage_gib" {
  description = "Initial storage of the database, in GiB."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.database_storage_gib >= 20 && var.database_storage_gib <= 59000
    error_message = "database_storage_gib must be 20 to 59000."
  }
}

variable "database_max_storage_gib" {
  description = "Maximum to which the storage of the database grows by itself, in GiB. 100 models that store one vector of 768 components a second fill 1,032 GiB in 30 days."
  type        = number
  default     = 1500
  nullable    = false

  validation {
    condition     = var.database_max_storage_gib >= 1.1 * var.database_storage_gib && var.database_max_storage_gib <= 65536
    error_message = "database_max_storage_gib must be at least a tenth more than database_storage_gib, and at most 65536."
  }
}

variable "database_multi_az" {
  description = "Whether a standby in another zone takes over if the zone of the database fails."
  type        = bool
  default     = true
  nullable    = false
}

variable "database_backup_retention_days" {
  description = "Number of past days to which the database can be restored, to the second."
  type        = number
  default     = 14
  nullable    = false

  validation {
    condition     = var.database_backup_retention_days >= 1 && var.database_backup_retention_days <= 35
    error_message = "database_backup_retention_days must be 1 to 35."
  }
}

variable "database_deletion_protection" {
  description = "Whether the database is protected from deletion."
  type        = bool
  default     = true
  nullable    = false
}

variable "database_final_snapshot" {
  description = "Whether a last snapshot, NAME-final, is made when the database is deleted."
  type        = bool
  default     = true
  nullable    = false
}

variable "database_password_rotation_days" {
  description = "Days after which RDS changes the password of the database."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.database_password_rotation_days >= 1 && var.database_password_rotation_days <= 1000
    error_message = "database_password_rotation_days must be 1 to 1000."
  }
}

variable "log_retention_days" {
  description = "Retention of the logs of control plane and database, in days."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = contains([30, 60, 90, 180, 365, 731, 1827, 3653], var.log_retention_days)
    error_message = "log_retention_days must be one of 30, 60, 90, 180, 365, 731, 1827 and 3653."
  }
}

variable "namespace" {
  description = "Kubernetes namespace of the monitor."
  type        = string
  default     = "embedding-drift"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "namespace must be 1 to 63 lower-case letters, digits and hyphens, and neither start nor end with a hyphen."
  }
}

variable "slack_webhook" {
  description = "URL of Slack's incoming webhook. It is stored in Secrets Manager, not in the state. Set TF_VAR_slack_webhook instead of writing it to a file."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = var.slack_webhook == null || startswith(coalesce(var.slack_webhook, "-"), "https://")
    error_message = "slack_webhook must be an https:// URL."
  }
}

variable "slack_webhook_version" {
  description = "Increase it to store the slack_webhook of this run; 0 stores none."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.slack_webhook_version >= 0 && floor(var.slack_webhook_version) == var.slack_webhook_version
    error_message = "slack_webhook_version must be a whole number, 0 or more."
  }
}

variable "managed_prometheus" {
  description = "Whether to create a workspace of Amazon Managed Prometheus with the alert rules, and allow a Prometheus in the cluster to write to it."
  type        = bool
  default     = false
  nullable    = false
}

variable "rules_directory" {
  description = "Folder of *.rules.yaml for managed_prometheus, as `embedding-drift rules render` writes it; relative to the folder Terraform runs in."
  type        = string
  default     = "../rendered"
  nullable    = false

  validation {
    condition     = !var.managed_prometheus || fileexists("${var.rules_directory}/thresholds.rules.yaml")
    error_message = "rules_directory has no thresholds.rules.yaml. Without it, no drift alert fires. Write the folder with `embedding-drift rules render --output FOLDER`."
  }
}

variable "prometheus_service_account" {
  description = "Namespace and service account of the Prometheus that writes to managed_prometheus; the default is that of kube-prometheus."
  type = object({
    namespace = optional(string, "monitoring")
    name      = optional(string, "prometheus-k8s")
  })
  default  = {}
  nullable = false
}

variable "external_secrets_service_account" {
  description = "Namespace and service account of an External Secrets Operator, which may read the secrets of the monitor; the default is that of its chart."
  type = object({
    namespace = optional(string, "external-secrets")
    name      = optional(string, "external-secrets")
  })
  default  = {}
  nullable = false
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
  nullable    = false
}
