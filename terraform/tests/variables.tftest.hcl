# Invalid values are rejected before anything is created. Each variable in expect_failures must fail.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  api_access_cidrs = ["203.0.113.7/32"]
}

run "refuses_names_that_aws_or_kubernetes_would_refuse" {
  command = plan
  variables {
    name      = "Embedding-Drift"
    namespace = "embedding.drift"
  }

  expect_failures = [
    var.name,
    var.namespace,
  ]
}

run "refuses_a_name_too_long_for_its_roles" {
  command = plan
  variables {
    name = "a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p"
  }

  expect_failures = [
    var.name,
  ]
}

run "refuses_a_network_too_open_or_too_small" {
  command = plan
  variables {
    api_access_cidrs = ["0.0.0.0/0"]
    vpc_cidr         = "10.0.0.0/24"
    zones            = 1
  }

  expect_failures = [
    var.api_access_cidrs,
    var.vpc_cidr,
    var.zones,
  ]
}

run "refuses_an_address_without_a_size" {
  command = plan
  variables {
    api_access_cidrs = ["203.0.113.7"]
    vpc_cidr         = "10.0.0.0"
    zones            = 4
  }

  expect_failures = [
    var.api_access_cidrs,
    var.vpc_cidr,
    var.zones,
  ]
}

run "refuses_an_impossible_cluster" {
  command = plan
  variables {
    kubernetes_version  = "1.9"
    node_instance_types = []
    min_nodes           = 0
    log_retention_days  = 100
  }

  expect_failures = [
    var.kubernetes_version,
    var.node_instance_types,
    var.min_nodes,
    var.log_retention_days,
  ]
}

run "refuses_fewer_nodes_at_most_than_at_least" {
  command = plan
  variables {
    max_nodes = 2
  }

  expect_failures = [
    var.max_nodes,
  ]
}

run "refuses_a_database_that_rds_or_the_monitor_would_refuse" {
  command = plan
  variables {
    postgres_version                = "14"
    database_instance_class         = "m7g.large"
    database_storage_gib            = 5
    database_backup_retention_days  = 0
    database_password_rotation_days = 0
  }

  expect_failures = [
    var.postgres_version,
    var.database_instance_class,
    var.database_storage_gib,
    var.database_backup_retention_days,
    var.database_password_rotation_days,
  ]
}

run "refuses_storage_that_cannot_grow" {
  command = plan
  variables {
    database_max_storage_gib = 109
  }

  expect_failures = [
    var.database_max_storage_gib,
  ]
}

run "refuses_a_webhook_in_the_clear" {
  command = plan
  variables {
    slack_webhook         = "http://hooks.slack.example/T0"
    slack_webhook_version = 0.5
  }

  expect_failures = [
    var.slack_webhook,
    var.slack_webhook_version,
  ]
}
