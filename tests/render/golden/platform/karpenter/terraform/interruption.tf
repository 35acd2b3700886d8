# Made by `stoker render`; change platform.yaml and render again.

# Karpenter's settings.interruptionQueue. A notice is worth 2 minutes.
resource "aws_sqs_queue" "interruption" {
  name                      = "agentic-ai-cluster"
  message_retention_seconds = 300
  sqs_managed_sse_enabled   = true
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_sqs_queue_policy" "interruption" {
  queue_url = aws_sqs_queue.interruption.url
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "EventsMaySend"
        Effect = "Allow"
        Principal = {
          Service = ["events.amazonaws.com", "sqs.amazonaws.com"]
        }
        Action   = "sqs:SendMessage"
        Resource = aws_sqs_queue.interruption.arn
      },
      {
        Sid       = "OnlyByTls"
        Effect    = "Deny"
        Principal = "*"
        Action = [
          "sqs:SendMessage",
          "sqs:ReceiveMessage",
          "sqs:DeleteMessage",
          "sqs:GetQueueAttributes",
          "sqs:GetQueueUrl",
          "sqs:PurgeQueue",
        ]
        Resource = aws_sqs_queue.interruption.arn
        Condition = {
          Bool = {
            "aws:SecureTransport" = "false"
          }
        }
      },
    ]
  })
}

resource "aws_cloudwatch_event_rule" "spot_interruption" {
  name        = "agentic-ai-cluster-spot-interruption"
  description = "To Karpenter: EC2 Spot Instance Interruption Warning"
  event_pattern = jsonencode({
    source      = ["aws.ec2"]
    detail-type = ["EC2 Spot Instance Interruption Warning"]
  })
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_cloudwatch_event_target" "spot_interruption" {
  rule      = aws_cloudwatch_event_rule.spot_interruption.name
  target_id = "KarpenterInterruptionQueueTarget"
  arn       = aws_sqs_queue.interruption.arn
}

resource "aws_cloudwatch_event_rule" "rebalance" {
  name        = "agentic-ai-cluster-rebalance"
  description = "To Karpenter: EC2 Instance Rebalance Recommendation"
  event_pattern = jsonencode({
    source      = ["aws.ec2"]
    detail-type = ["EC2 Instance Rebalance Recommendation"]
  })
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_cloudwatch_event_target" "rebalance" {
  rule      = aws_cloudwatch_event_rule.rebalance.name
  target_id = "KarpenterInterruptionQueueTarget"
  arn       = aws_sqs_queue.interruption.arn
}

resource "aws_cloudwatch_event_rule" "state_change" {
  name        = "agentic-ai-cluster-state-change"
  description = "To Karpenter: EC2 Instance State-change Notification"
  event_pattern = jsonencode({
    source      = ["aws.ec2"]
    detail-type = ["EC2 Instance State-change Notification"]
  })
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_cloudwatch_event_target" "state_change" {
  rule      = aws_cloudwatch_event_rule.state_change.name
  target_id = "KarpenterInterruptionQueueTarget"
  arn       = aws_sqs_queue.interruption.arn
}

resource "aws_cloudwatch_event_rule" "scheduled_change" {
  name        = "agentic-ai-cluster-scheduled-change"
  description = "To Karpenter: AWS Health Event"
  event_pattern = jsonencode({
    source      = ["aws.health"]
    detail-type = ["AWS Health Event"]
  })
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_cloudwatch_event_target" "scheduled_change" {
  rule      = aws_cloudwatch_event_rule.scheduled_change.name
  target_id = "KarpenterInterruptionQueueTarget"
  arn       = aws_sqs_queue.interruption.arn
}

resource "aws_cloudwatch_event_rule" "capacity_reservation" {
  name        = "agentic-ai-cluster-capacity-reservation"
  description = "To Karpenter: EC2 Capacity Reservation Instance Interruption Warning"
  event_pattern = jsonencode({
    source      = ["aws.ec2"]
    detail-type = ["EC2 Capacity Reservation Instance Interruption Warning"]
  })
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_cloudwatch_event_target" "capacity_reservation" {
  rule      = aws_cloudwatch_event_rule.capacity_reservation.name
  target_id = "KarpenterInterruptionQueueTarget"
  arn       = aws_sqs_queue.interruption.arn
}
