# Needs ../rendered, written by `embedding-drift rules render`.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  # terraform test 1.11 needs a value for an ephemeral variable; terraform apply does not.
  slack_webhook      = "https://hooks.slack.example/T0/B0/secret"
  api_access_cidrs   = ["203.0.113.7/32"]
  managed_prometheus = true
}

run "every_rule_file_becomes_a_namespace" {
  assert {
    condition = local.rules == {
      for file in fileset("../rendered", "*.rules.yaml") :
      trimsuffix(file, ".rules.yaml") => file("../rendered/${file}")
    }
    error_message = "all rule files are uploaded unchanged"
  }
  assert {
    condition     = alltrue([for name in ["drift", "pipeline", "thresholds"] : contains(keys(local.rules), name)])
    error_message = "the rules for drift, pipeline and thresholds are uploaded"
  }
}

run "tells_prometheus_where_to_write" {
  assert {
    condition     = output.remote_write_url == "https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write"
    error_message = "the URL is that of the workspace, in the form that Prometheus needs"
  }
}

run "rules_without_thresholds_are_refused" {
  command = plan
  variables {
    rules_directory = "../rules"
  }

  expect_failures = [var.rules_directory]
}

run "the_workspace_holds_each_rule_file_as_it_is" {
  variables {
    name        = "drift"
    rules       = { drift = "groups: []" }
    kms_key_arn = "arn:aws:kms:eu-central-1:111122223333:key/2b3c"
  }
  module {
    source = "./modules/prometheus"
  }

  assert {
    condition     = aws_prometheus_rule_group_namespace.this["drift"].data == "groups: []"
    error_message = "the text of a rule file is not changed"
  }
}
