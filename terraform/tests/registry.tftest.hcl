mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name        = "drift"
  kms_key_arn = "arn:aws:kms:eu-central-1:111122223333:key/2b3c"
}

run "what_a_tag_names_never_changes" {
  command = plan
  module {
    source = "./modules/registry"
  }

  assert {
    condition     = aws_ecr_repository.this.name == "drift" && aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE"
    error_message = "a tag is pushed once"
  }
  assert {
    condition = [
      for rule in jsondecode(aws_ecr_lifecycle_policy.this.policy).rules : rule.selection.tagStatus
    ] == ["untagged"]
    error_message = "only images without a tag expire"
  }
}

run "images_are_encrypted_with_our_key_and_scanned" {
  command = plan
  module {
    source = "./modules/registry"
  }

  assert {
    condition = (
      aws_ecr_repository.this.encryption_configuration[0].encryption_type == "KMS" &&
      aws_ecr_repository.this.encryption_configuration[0].kms_key == var.kms_key_arn
    )
    error_message = "the images are encrypted with our key"
  }
  assert {
    condition     = aws_ecr_repository.this.image_scanning_configuration[0].scan_on_push
    error_message = "an image is scanned when it is pushed"
  }
}
