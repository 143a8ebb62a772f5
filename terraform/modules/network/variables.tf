variable "name" {
  description = "Prefix of every resource's name."
  type        = string
}

variable "cidr" {
  description = "IPv4 block of the VPC."
  type        = string
}

variable "availability_zones" {
  description = "Zones to spread over; each gets a public, a private and a database subnet."
  type        = list(string)
}

variable "single_nat_gateway" {
  description = "Whether all zones share one NAT gateway, whose zone is then a single point of failure."
  type        = bool
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
