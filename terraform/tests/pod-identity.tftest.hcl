mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name            = "drift-prometheus"
  cluster_name    = "drift"
  namespace       = "monitoring"
  service_account = "prometheus-k8s"
  statements = [{
    Effect   = "Allow"
    Action   = ["aps:RemoteWrite"]
    Resource = ["arn:aws:aps:eu-central-1:111122223333:workspace/ws-1"]
  }]
}

run "pods_of_one_service_account_may_do_what_is_stated" {
  module {
    source = "./modules/pod-identity"
  }

  assert {
    condition = (
      jsondecode(aws_iam_role.this.assume_role_policy).Statement[0].Principal == { Service = "pods.eks.amazonaws.com" } &&
      aws_eks_pod_identity_association.this.namespace == "monitoring" &&
      aws_eks_pod_identity_association.this.service_account == "prometheus-k8s" &&
      aws_eks_pod_identity_association.this.role_arn == aws_iam_role.this.arn
    )
    error_message = "the role is for the pods of that service account"
  }
  assert {
    condition     = jsonencode(jsondecode(aws_iam_role_policy.this[0].policy).Statement) == jsonencode(var.statements)
    error_message = "the role allows exactly the given statements"
  }
}
