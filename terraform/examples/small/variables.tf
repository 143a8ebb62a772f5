variable "api_access_cidrs" {
  description = "IPv4 blocks from which kubectl may reach the cluster, such as [\"203.0.113.7/32\"]."
  type        = list(string)
}
