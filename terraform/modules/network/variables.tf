variable "name" {
  description = "Prefix of the names of all resources."
  type        = string
}

variable "cidr" {
  description = "IPv4 block of the VPC."
  type        = string

  validation {
    condition     = can(cidrnetmask(var.cidr)) && can(regex("/(1[6-9]|20)$", var.cidr))
    error_message = "cidr must be an IPv4 block of size /16 to /20, such as 10.0.0.0/16."
  }
}

variable "availability_zones" {
  description = "Zones to use. Each gets a public, a private and a database subnet."
  type        = list(string)

  validation {
    condition     = contains([2, 3], length(toset(var.availability_zones)))
    error_message = "availability_zones must be 2 or 3: the subnets of a fourth would overlap."
  }
}

variable "single_nat_gateway" {
  description = "Whether all zones share one NAT gateway, which makes its zone a single point of failure."
  type        = bool
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
