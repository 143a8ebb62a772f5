output "vpc_id" {
  description = "ID of the VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "IDs of the subnets for nodes and pods, one per zone."
  value       = [for subnet in aws_subnet.private : subnet.id]

  # Nodes need the NAT gateways to join the cluster.
  depends_on = [aws_route.private, aws_route.public, aws_route_table_association.private, aws_route_table_association.public]
}

output "database_subnet_ids" {
  description = "IDs of the subnets without a route out of the VPC, one per zone."
  value       = [for subnet in aws_subnet.database : subnet.id]
}

output "database_cidr_blocks" {
  description = "Address ranges of these subnets."
  value       = [for subnet in aws_subnet.database : subnet.cidr_block]
}
