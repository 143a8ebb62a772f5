variable "name" {
  description = "Name of the cluster."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes, such as 1.35."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the nodes, in two zones or more."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids must be two or more: EKS needs subnets in two zones."
  }
}

variable "public_access_cidrs" {
  description = "IPv4 blocks that may reach the API server from outside the VPC; with none, it has no public endpoint."
  type        = list(string)

  validation {
    condition     = alltrue([for cidr in var.public_access_cidrs : !endswith(cidr, "/0")])
    error_message = "public_access_cidrs must not be the whole Internet (/0)."
  }
}

variable "node_instance_types" {
  description = "EC2 instance types of the nodes, x86-64."
  type        = list(string)
}

variable "min_nodes" {
  description = "Initial and minimum number of nodes."
  type        = number
}

variable "max_nodes" {
  description = "Maximum number of nodes."
  type        = number

  validation {
    condition     = var.max_nodes >= var.min_nodes
    error_message = "max_nodes must be min_nodes or more."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the cluster's secrets."
  type        = string
}

variable "log_retention_days" {
  description = "Retention of the control plane's logs, in days."
  type        = number
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
