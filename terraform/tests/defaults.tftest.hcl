# `terraform apply` with only the required variable.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  # terraform test 1.11 needs a value for an ephemeral variable; terraform apply does not.
  slack_webhook    = "https://hooks.slack.example/T0/B0/secret"
  api_access_cidrs = ["203.0.113.7/32"]
}

run "spreads_over_three_zones" {
  assert {
    condition     = local.zones == tolist(["eu-central-1a", "eu-central-1b", "eu-central-1c"])
    error_message = "zones are used in order"
  }
  assert {
    condition     = length(module.network.private_subnet_ids) == 3 && length(module.network.database_subnet_ids) == 3
    error_message = "each zone has a private and a database subnet"
  }
}

run "hands_over_the_cluster_and_its_database" {
  assert {
    condition     = strcontains(output.hand_over, "aws eks update-kubeconfig --region 'eu-central-1' --name 'embedding-drift'")
    error_message = "the script configures kubectl for the cluster"
  }
  assert {
    condition     = strcontains(output.hand_over, "secret 'arn:aws:secretsmanager:eu-central-1:111122223333:secret:rds!db-1'")
    error_message = "the script reads the password from the secret of RDS"
  }
  assert {
    condition     = strcontains(output.hand_over, "@embedding-drift.example.eu-central-1.rds.amazonaws.com:5432/embeddings?sslmode=require")
    error_message = "the script names the database"
  }
  assert {
    condition     = !strcontains(output.hand_over, "slack")
    error_message = "without a webhook, the script does not read one"
  }
}

run "limits_connections_to_the_database" {
  assert {
    condition = yamldecode(output.database_egress).networkPolicy.databaseTo == [
      { ipBlock = { cidr = "10.0.224.0/22" } },
      { ipBlock = { cidr = "10.0.228.0/22" } },
      { ipBlock = { cidr = "10.0.232.0/22" } },
    ]
    error_message = "the values name the subnets of the database, because a failover changes its address"
  }
}

run "says_where_the_image_and_the_secrets_are" {
  assert {
    condition     = output.repository_url == "111122223333.dkr.ecr.eu-central-1.amazonaws.com/embedding-drift"
    error_message = "the image is pushed to the repository"
  }
  assert {
    condition     = output.database_secret_arn == "arn:aws:secretsmanager:eu-central-1:111122223333:secret:rds!db-1"
    error_message = "the secret of the database is that of RDS"
  }
  assert {
    condition     = output.slack_webhook_secret_arn == "arn:aws:secretsmanager:eu-central-1:111122223333:secret:slack-webhook"
    error_message = "the script reads the secret of the webhook"
  }
}

run "makes_no_managed_prometheus" {
  command = plan

  assert {
    condition     = length(module.prometheus) == 0 && output.remote_write_url == null
    error_message = "Prometheus runs in the cluster"
  }
}

run "hands_over_a_webhook_it_was_given" {
  variables {
    slack_webhook_version = 1
  }

  assert {
    condition     = strcontains(output.hand_over, "secret 'arn:aws:secretsmanager:eu-central-1:111122223333:secret:slack-webhook'")
    error_message = "the script reads the webhook from Secrets Manager"
  }
  assert {
    condition     = !strcontains(output.hand_over, "hooks.slack.example")
    error_message = "the script does not contain the webhook"
  }
}
