mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                     = "drift"
  postgres_version         = "17"
  instance_class           = "db.m7g.large"
  storage_gib              = 100
  max_storage_gib          = 1000
  multi_az                 = true
  backup_retention_days    = 14
  deletion_protection      = true
  final_snapshot           = true
  password_rotation_days   = 90
  log_retention_days       = 365
  vpc_id                   = "vpc-1"
  subnet_ids               = ["subnet-1", "subnet-2"]
  client_security_group_id = "sg-nodes"
  kms_key_arn              = "arn:aws:kms:eu-central-1:111122223333:key/2b3c"
}

run "the_database_is_safe" {
  module {
    source = "./modules/database"
  }

  assert {
    condition     = aws_db_instance.this.storage_encrypted && aws_db_instance.this.kms_key_id == var.kms_key_arn
    error_message = "storage is encrypted with our key"
  }
  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null
    error_message = "RDS creates the password; Terraform does not know it"
  }
  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot
    error_message = "it is protected from deletion, and a deletion makes a snapshot"
  }
  assert {
    condition     = aws_db_instance.this.multi_az && aws_db_instance.this.backup_retention_period == 14
    error_message = "it has a standby and backups"
  }
  assert {
    condition     = !aws_db_instance.this.publicly_accessible
    error_message = "it has no public address"
  }
}

run "only_the_cluster_reaches_it_and_only_encrypted" {
  module {
    source = "./modules/database"
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.this.referenced_security_group_id == "sg-nodes" &&
      aws_vpc_security_group_ingress_rule.this.from_port == 5432 &&
      aws_vpc_security_group_ingress_rule.this.to_port == 5432
    )
    error_message = "only nodes reach port 5432"
  }
  assert {
    condition     = contains([for p in aws_db_parameter_group.this.parameter : "${p.name}=${p.value}"], "rds.force_ssl=1")
    error_message = "a connection without TLS is rejected"
  }
}

run "a_higher_major_version_upgrades_it" {
  command = plan
  variables {
    postgres_version = "18"
  }
  module {
    source = "./modules/database"
  }

  assert {
    condition     = aws_db_instance.this.engine_version == "18" && aws_db_parameter_group.this.family == "postgres18"
    error_message = "server and parameters have the same version"
  }
  assert {
    condition     = aws_db_instance.this.allow_major_version_upgrade && aws_db_instance.this.apply_immediately
    error_message = "RDS refuses a higher version without the first, and uses the old parameters without the second"
  }
}

run "its_logs_end_and_go_with_it" {
  command = plan
  module {
    source = "./modules/database"
  }

  assert {
    condition = (
      { for group in aws_cloudwatch_log_group.this : group.name => group.retention_in_days } == {
        "/aws/rds/instance/drift/postgresql" = 365
        "/aws/rds/instance/drift/upgrade"    = 365
      } &&
      aws_db_instance.this.enabled_cloudwatch_logs_exports == toset(["postgresql", "upgrade"])
    )
    error_message = "each exported log has a group that Terraform destroys"
  }
}

run "the_password_changes_on_schedule_not_at_once" {
  module {
    source = "./modules/database"
  }

  assert {
    condition = (
      aws_secretsmanager_secret_rotation.this.rotation_rules[0].automatically_after_days == 90 &&
      aws_secretsmanager_secret_rotation.this.rotate_immediately == false
    )
    error_message = "the secret in the cluster is valid until then"
  }
}

run "giving_up_the_protection_keeps_the_last_snapshot" {
  command = plan
  variables {
    deletion_protection = false
  }
  module {
    source = "./modules/database"
  }

  assert {
    condition = (
      !aws_db_instance.this.skip_final_snapshot &&
      aws_db_instance.this.final_snapshot_identifier == "drift-final"
    )
    error_message = "a server without protection still makes a snapshot"
  }
}

run "a_trial_database_goes_without_trace" {
  command = plan
  variables {
    deletion_protection = false
    final_snapshot      = false
  }
  module {
    source = "./modules/database"
  }

  assert {
    condition     = aws_db_instance.this.skip_final_snapshot && !aws_db_instance.this.deletion_protection
    error_message = "terraform destroy needs no manual step"
  }
}

run "refuses_a_single_zone" {
  command = plan
  variables {
    subnet_ids = ["subnet-1"]
  }
  module {
    source = "./modules/database"
  }

  expect_failures = [
    var.subnet_ids,
  ]
}
