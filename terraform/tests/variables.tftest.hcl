# Each value is refused before anything is made.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  api_access_cidrs = ["203.0.113.7/32"]
}

run "refuses_name_with_capitals" {
  command = plan
  variables {
    name = "Embedding-Drift"
  }

  expect_failures = [var.name]
}

run "refuses_name_too_long_for_iam_and_rds" {
  command = plan
  variables {
    name = "a123456789012345678901234567890"
  }

  expect_failures = [var.name]
}

run "refuses_the_whole_internet" {
  command = plan
  variables {
    api_access_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.api_access_cidrs]
}

run "refuses_an_address_without_a_size" {
  command = plan
  variables {
    api_access_cidrs = ["203.0.113.7"]
  }

  expect_failures = [var.api_access_cidrs]
}

run "refuses_a_vpc_too_small_for_pods" {
  command = plan
  variables {
    vpc_cidr = "10.0.0.0/24"
  }

  expect_failures = [var.vpc_cidr]
}

run "refuses_one_zone" {
  command = plan
  variables {
    zones = 1
  }

  expect_failures = [var.zones]
}

run "refuses_an_unknown_kubernetes" {
  command = plan
  variables {
    kubernetes_version = "1.9"
  }

  expect_failures = [var.kubernetes_version]
}

run "refuses_more_nodes_at_least_than_at_most" {
  command = plan
  variables {
    min_nodes = 5
    max_nodes = 4
  }

  expect_failures = [var.max_nodes]
}

run "refuses_no_instance_type" {
  command = plan
  variables {
    node_instance_types = []
  }

  expect_failures = [var.node_instance_types]
}

run "refuses_a_postgresql_too_old" {
  command = plan
  variables {
    postgres_version = "14"
  }

  expect_failures = [var.postgres_version]
}

run "refuses_storage_too_small_for_rds" {
  command = plan
  variables {
    database_storage_gib = 5
  }

  expect_failures = [var.database_storage_gib]
}

run "refuses_no_nodes" {
  command = plan
  variables {
    min_nodes = 0
  }

  expect_failures = [var.min_nodes]
}

run "refuses_an_instance_class_of_ec2" {
  command = plan
  variables {
    database_instance_class = "m7g.large"
  }

  expect_failures = [var.database_instance_class]
}

run "refuses_storage_that_cannot_grow" {
  command = plan
  variables {
    database_storage_gib     = 100
    database_max_storage_gib = 100
  }

  expect_failures = [var.database_max_storage_gib]
}

run "refuses_no_backups" {
  command = plan
  variables {
    database_backup_retention_days = 0
  }

  expect_failures = [var.database_backup_retention_days]
}

run "refuses_a_password_for_ever" {
  command = plan
  variables {
    database_password_rotation_days = 0
  }

  expect_failures = [var.database_password_rotation_days]
}

run "refuses_a_retention_cloudwatch_has_not" {
  command = plan
  variables {
    log_retention_days = 100
  }

  expect_failures = [var.log_retention_days]
}

run "refuses_a_namespace_with_a_dot" {
  command = plan
  variables {
    namespace = "embedding.drift"
  }

  expect_failures = [var.namespace]
}

run "refuses_a_webhook_in_the_clear" {
  command = plan
  variables {
    slack_webhook = "http://hooks.slack.example/T0"
  }

  expect_failures = [var.slack_webhook]
}

run "refuses_half_a_version" {
  command = plan
  variables {
    slack_webhook_version = 0.5
  }

  expect_failures = [var.slack_webhook_version]
}
