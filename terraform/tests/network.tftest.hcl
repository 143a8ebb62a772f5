mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name               = "drift"
  cidr               = "10.0.0.0/16"
  availability_zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
  single_nat_gateway = false
}

run "subnets_do_not_overlap" {
  command = plan
  module {
    source = "./modules/network"
  }

  assert {
    condition = [for subnet in aws_subnet.private : subnet.cidr_block] == [
      "10.0.0.0/18", "10.0.64.0/18", "10.0.128.0/18",
    ]
    error_message = "each private subnet has a quarter of the VPC"
  }
  assert {
    condition = [for subnet in aws_subnet.public : subnet.cidr_block] == [
      "10.0.192.0/22", "10.0.196.0/22", "10.0.200.0/22",
    ]
    error_message = "public subnets follow the private ones"
  }
  assert {
    condition = [for subnet in aws_subnet.database : subnet.cidr_block] == [
      "10.0.224.0/22", "10.0.228.0/22", "10.0.232.0/22",
    ]
    error_message = "database subnets follow the public ones"
  }
}

run "each_zone_has_its_own_way_out" {
  module {
    source = "./modules/network"
  }

  assert {
    condition = alltrue([
      for zone, route in aws_route.private : route.nat_gateway_id == aws_nat_gateway.this[zone].id
    ])
    error_message = "each zone has its own NAT gateway"
  }
}

run "zones_can_share_one_way_out" {
  variables {
    single_nat_gateway = true
  }
  module {
    source = "./modules/network"
  }

  assert {
    condition     = keys(aws_nat_gateway.this) == ["eu-central-1a"]
    error_message = "there is one NAT gateway, in the first zone"
  }
  assert {
    condition     = length(toset([for route in aws_route.private : route.nat_gateway_id])) == 1
    error_message = "every private subnet uses it"
  }
}

run "no_instance_gets_a_public_address" {
  command = plan
  module {
    source = "./modules/network"
  }

  assert {
    condition     = !anytrue([for subnet in aws_subnet.public : subnet.map_public_ip_on_launch])
    error_message = "instances in public subnets get no public address by default"
  }
}

run "refuses_a_cut_that_would_overlap" {
  command = plan
  variables {
    cidr               = "10.0.0.0/24"
    availability_zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c", "eu-central-1d"]
  }
  module {
    source = "./modules/network"
  }

  expect_failures = [
    var.cidr,
    var.availability_zones,
  ]
}
