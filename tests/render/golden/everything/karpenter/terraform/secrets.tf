# Made by `stoker render`; change platform.yaml and render again.

# For write-only arguments.
terraform {
  required_version = ">= 1.11"
}

# Password of Redis.
ephemeral "aws_secretsmanager_random_password" "redis" {
  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "redis" {
  name                    = "everything/redis"
  description             = "Password of Redis."
  recovery_window_in_days = 7
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

# Written once. A higher number writes a new one; pods take it when they are restarted.
resource "aws_secretsmanager_secret_version" "redis" {
  secret_id = aws_secretsmanager_secret.redis.id
  secret_string_wo = jsonencode({
    password = ephemeral.aws_secretsmanager_random_password.redis.random_password
  })
  secret_string_wo_version = 1
}

# Password of the ledger's database.
ephemeral "aws_secretsmanager_random_password" "ledger" {
  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "ledger" {
  name                    = "everything/ledger"
  description             = "Password of the ledger's database."
  recovery_window_in_days = 7
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

# Written once. A higher number writes a new one; pods take it when they are restarted.
resource "aws_secretsmanager_secret_version" "ledger" {
  secret_id = aws_secretsmanager_secret.ledger.id
  secret_string_wo = jsonencode({
    password = ephemeral.aws_secretsmanager_random_password.ledger.random_password
  })
  secret_string_wo_version = 1
}

# What engines ask of the gateway and the workers.
ephemeral "aws_secretsmanager_random_password" "engine" {
  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "engine" {
  name                    = "everything/engine"
  description             = "What engines ask of the gateway and the workers."
  recovery_window_in_days = 7
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

# Written once. A higher number writes a new one; pods take it when they are restarted.
resource "aws_secretsmanager_secret_version" "engine" {
  secret_id = aws_secretsmanager_secret.engine.id
  secret_string_wo = jsonencode({
    key = ephemeral.aws_secretsmanager_random_password.engine.random_password
  })
  secret_string_wo_version = 1
}

# The key of the admin API.
ephemeral "aws_secretsmanager_random_password" "admin" {
  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "admin" {
  name                    = "everything/admin"
  description             = "The key of the admin API."
  recovery_window_in_days = 7
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

# Written once. A higher number writes a new one; pods take it when they are restarted.
resource "aws_secretsmanager_secret_version" "admin" {
  secret_id = aws_secretsmanager_secret.admin.id
  secret_string_wo = jsonencode({
    key = ephemeral.aws_secretsmanager_random_password.admin.random_password
  })
  secret_string_wo_version = 1
}

# What the grants of agents' runs are signed with.
ephemeral "aws_secretsmanager_random_password" "agents" {
  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "agents" {
  name                    = "everything/agents"
  description             = "What the grants of agents' runs are signed with."
  recovery_window_in_days = 7
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

# Written once. A higher number writes a new one; pods take it when they are restarted.
resource "aws_secretsmanager_secret_version" "agents" {
  secret_id = aws_secretsmanager_secret.agents.id
  secret_string_wo = jsonencode({
    key = ephemeral.aws_secretsmanager_random_password.agents.random_password
  })
  secret_string_wo_version = 1
}
