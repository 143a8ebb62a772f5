mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name          = "drift/slack-webhook"
  description   = "A webhook"
  value         = "https://hooks.slack.example/T0/B0/secret"
  value_version = 1
  kms_key_arn   = "arn:aws:kms:eu-central-1:111122223333:key/2b3c"
}

run "the_value_is_sent_and_not_kept" {
  module {
    source = "./modules/secrets"
  }

  assert {
    condition = (
      aws_secretsmanager_secret_version.this[0].secret_string_wo_version == 1 &&
      aws_secretsmanager_secret_version.this[0].secret_string_wo == null &&
      !strcontains(jsonencode(aws_secretsmanager_secret_version.this), "hooks.slack.example")
    )
    error_message = "the state has the version of the secret, but not the secret"
  }
  assert {
    condition     = aws_secretsmanager_secret.this.kms_key_id == var.kms_key_arn
    error_message = "the secret is encrypted with our key"
  }
}

run "a_later_run_needs_no_value" {
  command = plan
  variables {
    value = null
  }
  module {
    source = "./modules/secrets"
  }

  assert {
    condition     = aws_secretsmanager_secret_version.this[0].secret_string_wo_version == 1
    error_message = "the stored value stays"
  }
}

run "version_0_stores_none" {
  command = plan
  variables {
    value_version = 0
  }
  module {
    source = "./modules/secrets"
  }

  assert {
    condition     = length(aws_secretsmanager_secret_version.this) == 0
    error_message = "the secret is created and stays empty"
  }
}
