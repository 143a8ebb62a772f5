# Answers of AWS, for the places where the provider checks their form.

mock_data "aws_availability_zones" {
  defaults = {
    names = ["eu-central-1c", "eu-central-1a", "eu-central-1b"]
  }
}

mock_data "aws_region" {
  defaults = {
    name = "eu-central-1"
  }
}

mock_data "aws_partition" {
  defaults = {
    partition = "aws"
  }
}

mock_data "aws_eks_addon_version" {
  defaults = {
    version = "v1.2.3-eksbuild.4"
  }
}

mock_resource "aws_kms_key" {
  defaults = {
    arn    = "arn:aws:kms:eu-central-1:111122223333:key/2b3c"
    key_id = "2b3c"
  }
}

mock_resource "aws_iam_role" {
  defaults = {
    arn = "arn:aws:iam::111122223333:role/mock"
  }
}

mock_resource "aws_launch_template" {
  defaults = {
    id             = "lt-0123456789abcdef0"
    latest_version = 1
  }
}

mock_resource "aws_eks_cluster" {
  defaults = {
    vpc_config = {
      cluster_security_group_id = "sg-nodes"
    }
  }
}

mock_resource "aws_db_instance" {
  defaults = {
    address = "embedding-drift.example.eu-central-1.rds.amazonaws.com"
    master_user_secret = [{
      secret_arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:rds!db-1"
    }]
  }
}

mock_resource "aws_ecr_repository" {
  defaults = {
    repository_url = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/embedding-drift"
  }
}

mock_resource "aws_secretsmanager_secret" {
  defaults = {
    arn = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:slack-webhook"
  }
}

mock_resource "aws_prometheus_workspace" {
  defaults = {
    arn                 = "arn:aws:aps:eu-central-1:111122223333:workspace/ws-1"
    prometheus_endpoint = "https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-1/"
  }
}
