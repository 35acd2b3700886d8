# Made by `stoker render`; change platform.yaml and render again.

# Gateways publish here that a budget is being used up (costs.alerts). Who hears it subscribes.
resource "aws_sns_topic" "alerts" {
  name              = "budgets-alerts"
  kms_master_key_id = "alias/aws/sns"
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}
