# Needs ../rendered, written by `embedding-drift rules render`.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  api_access_cidrs = ["203.0.113.7/32"]
}

run "small_can_be_planned" {
  command = plan
  module {
    source = "./examples/small"
  }
}

run "managed_prometheus_can_be_planned" {
  command = plan
  module {
    source = "./examples/managed-prometheus"
  }
}
