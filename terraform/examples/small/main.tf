# The cheapest setup that works. For a trial, not for data that must be kept.
provider "aws" {
  region = "eu-central-1"
}

module "embedding_drift" {
  source = "../.."

  api_access_cidrs   = var.api_access_cidrs
  zones              = 2
  single_nat_gateway = true

  node_instance_types = ["t3.large"]
  min_nodes           = 2
  max_nodes           = 3

  database_instance_class        = "db.t4g.medium"
  database_storage_gib           = 20
  database_max_storage_gib       = 50
  database_multi_az              = false
  database_backup_retention_days = 1
  database_deletion_protection   = false
  database_final_snapshot        = false
}
