# Made by `stoker render`; change platform.yaml and render again.

data "aws_caller_identity" "cloudwatch" {}

# A key of our own: alarms cannot publish to a topic under SNS' key, whose policy nobody can change. The actions
# of the account are written out.
resource "aws_kms_key" "alarms" {
  description             = "Alarms of agentic-ai-cluster"
  enable_key_rotation     = true
  deletion_window_in_days = 7
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "Administer"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::${data.aws_caller_identity.cloudwatch.account_id}:root"
        }
        Action = [
          "kms:DescribeKey",
          "kms:GetKeyPolicy",
          "kms:PutKeyPolicy",
          "kms:ListKeyPolicies",
          "kms:EnableKey",
          "kms:DisableKey",
          "kms:UpdateKeyDescription",
          "kms:GetKeyRotationStatus",
          "kms:EnableKeyRotation",
          "kms:DisableKeyRotation",
          "kms:ScheduleKeyDeletion",
          "kms:CancelKeyDeletion",
          "kms:TagResource",
          "kms:UntagResource",
          "kms:ListResourceTags",
          "kms:CreateGrant",
          "kms:ListGrants",
          "kms:RevokeGrant",
        ]
        Resource = "*"
      },
      {
        Sid    = "AlarmsPublish"
        Effect = "Allow"
        Principal = {
          Service = "cloudwatch.amazonaws.com"
        }
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = "*"
        Condition = {
          StringEquals = {
            "aws:SourceAccount" = "${data.aws_caller_identity.cloudwatch.account_id}"
          }
        }
      },
    ]
  })
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_sns_topic" "alarms" {
  name              = "agentic-ai-cluster-alarms"
  kms_master_key_id = aws_kms_key.alarms.arn
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "AlarmsPublish"
        Effect = "Allow"
        Principal = {
          Service = "cloudwatch.amazonaws.com"
        }
        Action   = "sns:Publish"
        Resource = aws_sns_topic.alarms.arn
        Condition = {
          StringEquals = {
            "aws:SourceAccount" = "${data.aws_caller_identity.cloudwatch.account_id}"
          }
        }
      },
    ]
  })
}

resource "aws_cloudwatch_dashboard" "stoker" {
  dashboard_name = "agentic-ai-cluster-stoker"
  dashboard_body = jsonencode({
    widgets = [
      {
        type   = "metric"
        x      = 0
        y      = 0
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "GPU utilization (%)"
          period = 60
          metrics = [
            [
              "ContainerInsights",
              "node_gpu_utilization",
              "ClusterName",
              "agentic-ai-cluster",
              {
                stat  = "Average"
                label = "average"
              },
            ],
            [
              "ContainerInsights",
              "node_gpu_utilization",
              "ClusterName",
              "agentic-ai-cluster",
              {
                stat  = "Maximum"
                label = "highest"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 8
        y      = 0
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "GPU memory in use (%)"
          period = 60
          metrics = [
            [
              "ContainerInsights",
              "node_gpu_memory_utilization",
              "ClusterName",
              "agentic-ai-cluster",
              {
                stat  = "Average"
                label = "average"
              },
            ],
            [
              "ContainerInsights",
              "node_gpu_memory_utilization",
              "ClusterName",
              "agentic-ai-cluster",
              {
                stat  = "Maximum"
                label = "highest"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 16
        y      = 0
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "GPUs: there, and in use by pods"
          period = 60
          metrics = [
            [
              "ContainerInsights",
              "node_gpu_limit",
              "ClusterName",
              "agentic-ai-cluster",
              {
                stat  = "Sum"
                label = "there"
              },
            ],
            [
              "ContainerInsights",
              "node_gpu_usage_total",
              "ClusterName",
              "agentic-ai-cluster",
              {
                stat  = "Sum"
                label = "in use"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 0
        y      = 6
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "GPU temperature (C) and power (W)"
          period = 60
          metrics = [
            [
              "ContainerInsights",
              "node_gpu_temperature",
              "ClusterName",
              "agentic-ai-cluster",
              {
                stat  = "Maximum"
                label = "hottest"
              },
            ],
            [
              "ContainerInsights",
              "node_gpu_power_draw",
              "ClusterName",
              "agentic-ai-cluster",
              {
                stat  = "Sum"
                label = "power of all"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 8
        y      = 6
        width  = 8
        height = 6
        properties = {
          region  = "us-west-2"
          view    = "timeSeries"
          title   = "Tokens by model"
          period  = 300
          stacked = true
          metrics = [
            [
              {
                expression = "SEARCH('{AgenticAI/Tokens,ClusterName,ModelName} MetricName=\"PromptTokens\" ClusterName=\"agentic-ai-cluster\"', 'Sum', 300)"
                id         = "p"
                label      = "PromptTokens"
              },
            ],
            [
              {
                expression = "SEARCH('{AgenticAI/Tokens,ClusterName,ModelName} MetricName=\"CompletionTokens\" ClusterName=\"agentic-ai-cluster\"', 'Sum', 300)"
                id         = "c"
                label      = "CompletionTokens"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 16
        y      = 6
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "Part of prompts that was cached"
          period = 300
          metrics = [
            [
              {
                expression = "100*k/FILL(p,1)"
                label      = "per cent"
                id         = "e"
              },
            ],
            [
              {
                expression = "SUM(SEARCH('{AgenticAI/Tokens,ClusterName,ModelName} MetricName=\"PromptTokens\" ClusterName=\"agentic-ai-cluster\"', 'Sum', 300))"
                id         = "p"
                visible    = false
              },
            ],
            [
              {
                expression = "SUM(SEARCH('{AgenticAI/Tokens,ClusterName,ModelName} MetricName=\"CachedTokens\" ClusterName=\"agentic-ai-cluster\"', 'Sum', 300))"
                id         = "k"
                visible    = false
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 0
        y      = 12
        width  = 8
        height = 6
        properties = {
          region  = "us-west-2"
          view    = "timeSeries"
          title   = "Requests by model"
          period  = 300
          stacked = true
          metrics = [
            [
              {
                expression = "SEARCH('{AgenticAI/Tokens,ClusterName,ModelName} MetricName=\"Requests\" ClusterName=\"agentic-ai-cluster\"', 'Sum', 300)"
                id         = "q"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 8
        y      = 12
        width  = 8
        height = 6
        properties = {
          region  = "us-west-2"
          view    = "timeSeries"
          title   = "Requests that failed"
          period  = 300
          stacked = true
          metrics = [
            [
              {
                expression = "SEARCH('{AgenticAI/Tokens,ClusterName,ModelName} MetricName=\"Errors\" ClusterName=\"agentic-ai-cluster\"', 'Sum', 300)"
                id         = "q"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 16
        y      = 12
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "Time to the first token, p95, s"
          period = 60
          metrics = [
            [
              {
                expression = "SEARCH('{AgenticAI/Tokens,ClusterName,ModelName} MetricName=\"TimeToFirstToken\" ClusterName=\"agentic-ai-cluster\"', 'p95', 60)"
                id         = "q"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 0
        y      = 18
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "By the models' prices, USD per hour"
          period = 3600
          metrics = [
            [
              {
                expression = "SEARCH('{AgenticAI/Cost,ClusterName,ModelName} MetricName=\"ListPrice\" ClusterName=\"agentic-ai-cluster\"', 'Sum', 3600)"
                id         = "q"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 8
        y      = 18
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "USD of GPUs per million tokens, at most"
          period = 3600
          metrics = [
            [
              {
                expression = "(m1/60*3.4309)/((p+c)/1000000)"
                label      = "each GPU at 3.4309 USD an hour, the dearest that the pools allow"
                id         = "e1"
              },
            ],
            [
              {
                expression = "SUM(SEARCH('{AgenticAI/Tokens,ClusterName,ModelName} MetricName=\"PromptTokens\" ClusterName=\"agentic-ai-cluster\"', 'Sum', 3600))"
                id         = "p"
                visible    = false
              },
            ],
            [
              {
                expression = "SUM(SEARCH('{AgenticAI/Tokens,ClusterName,ModelName} MetricName=\"CompletionTokens\" ClusterName=\"agentic-ai-cluster\"', 'Sum', 3600))"
                id         = "c"
                visible    = false
              },
            ],
            [
              "ContainerInsights",
              "node_gpu_limit",
              "ClusterName",
              "agentic-ai-cluster",
              {
                id      = "m1"
                stat    = "Sum"
                visible = false
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 16
        y      = 18
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "Tasks that wait"
          period = 60
          metrics = [
            [
              {
                expression = "SEARCH('{AgenticAI/Queue,ClusterName,ModelName} MetricName=\"TasksWaiting\" ClusterName=\"agentic-ai-cluster\"', 'Maximum', 60)"
                id         = "q"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 0
        y      = 24
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "Tasks that run"
          period = 60
          metrics = [
            [
              {
                expression = "SEARCH('{AgenticAI/Queue,ClusterName,ModelName} MetricName=\"TasksRunning\" ClusterName=\"agentic-ai-cluster\"', 'Maximum', 60)"
                id         = "q"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 8
        y      = 24
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "Requests past the queue"
          period = 60
          metrics = [
            [
              {
                expression = "SEARCH('{AgenticAI/Queue,ClusterName,ModelName} MetricName=\"RequestsInFlight\" ClusterName=\"agentic-ai-cluster\"', 'Sum', 60)"
                id         = "q"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 16
        y      = 24
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "Dead letters"
          period = 300
          metrics = [
            [
              "AWS/SQS",
              "ApproximateNumberOfMessagesVisible",
              "QueueName",
              "stoker-dead-letters",
              {
                stat = "Maximum"
              },
            ],
          ]
        }
      },
      {
        type   = "metric"
        x      = 0
        y      = 30
        width  = 8
        height = 6
        properties = {
          region = "us-west-2"
          view   = "timeSeries"
          title  = "What EC2 says of its nodes (interruptions)"
          period = 300
          metrics = [
            [
              "AWS/SQS",
              "NumberOfMessagesSent",
              "QueueName",
              "agentic-ai-cluster",
              {
                stat = "Sum"
              },
            ],
          ]
        }
      },
    ]
  })
}

# Per cent, and not 90: vLLM takes nine tenths at its start and keeps them.
resource "aws_cloudwatch_metric_alarm" "gpu_memory" {
  alarm_name        = "agentic-ai-cluster-gpu-memory"
  alarm_description = "A GPU has no memory left."
  namespace         = "ContainerInsights"
  metric_name       = "node_gpu_memory_utilization"
  dimensions = {
    ClusterName = "agentic-ai-cluster"
  }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 98.0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_cloudwatch_metric_alarm" "gpu_hot" {
  alarm_name        = "agentic-ai-cluster-gpu-hot"
  alarm_description = "A GPU is so hot that it slows down."
  namespace         = "ContainerInsights"
  metric_name       = "node_gpu_temperature"
  dimensions = {
    ClusterName = "agentic-ai-cluster"
  }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 88
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

# Without nodes there is no data, and no alarm.
resource "aws_cloudwatch_metric_alarm" "gpu_idle" {
  alarm_name        = "agentic-ai-cluster-gpu-idle"
  alarm_description = "All GPUs have been idle for two hours, and are paid for."
  namespace         = "ContainerInsights"
  metric_name       = "node_gpu_utilization"
  dimensions = {
    ClusterName = "agentic-ai-cluster"
  }
  statistic           = "Average"
  period              = 3600
  evaluation_periods  = 2
  comparison_operator = "LessThanThreshold"
  threshold           = 3
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

# XID errors: the add-on's exporter has no metric of them. Where the EKS node monitoring agent runs (always in
# Auto Mode), those of the hardware make the node fail.
resource "aws_cloudwatch_metric_alarm" "node_failed" {
  alarm_name        = "agentic-ai-cluster-node-failed"
  alarm_description = "A node has a condition that makes it unfit, such as a GPU that the node monitoring agent holds for broken."
  namespace         = "ContainerInsights"
  metric_name       = "cluster_failed_node_count"
  dimensions = {
    ClusterName = "agentic-ai-cluster"
  }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_cloudwatch_metric_alarm" "queue_general" {
  alarm_name        = "agentic-ai-cluster-queue-general"
  alarm_description = "More tasks wait for general than all of its replicas can run at once."
  namespace         = "AgenticAI/Queue"
  metric_name       = "TasksWaiting"
  dimensions = {
    ClusterName = "agentic-ai-cluster"
    ModelName   = "general"
  }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 10
  comparison_operator = "GreaterThanThreshold"
  threshold           = 400
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_cloudwatch_metric_alarm" "queue_code" {
  alarm_name        = "agentic-ai-cluster-queue-code"
  alarm_description = "More tasks wait for code than all of its replicas can run at once."
  namespace         = "AgenticAI/Queue"
  metric_name       = "TasksWaiting"
  dimensions = {
    ClusterName = "agentic-ai-cluster"
    ModelName   = "code"
  }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 10
  comparison_operator = "GreaterThanThreshold"
  threshold           = 400
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_cloudwatch_metric_alarm" "queue_vision" {
  alarm_name        = "agentic-ai-cluster-queue-vision"
  alarm_description = "More tasks wait for vision than all of its replicas can run at once."
  namespace         = "AgenticAI/Queue"
  metric_name       = "TasksWaiting"
  dimensions = {
    ClusterName = "agentic-ai-cluster"
    ModelName   = "vision"
  }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 10
  comparison_operator = "GreaterThanThreshold"
  threshold           = 400
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  alarm_name        = "agentic-ai-cluster-dead-letters"
  alarm_description = "Tasks were given up: see `stoker tasks dead`."
  namespace         = "AWS/SQS"
  metric_name       = "ApproximateNumberOfMessagesVisible"
  dimensions = {
    QueueName = "stoker-dead-letters"
  }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

# Two minutes is all the notice that there is.
resource "aws_cloudwatch_metric_alarm" "interruptions_unread" {
  alarm_name        = "agentic-ai-cluster-interruptions-unread"
  alarm_description = "Karpenter does not read what EC2 says of spot interruptions: nodes go without being drained."
  namespace         = "AWS/SQS"
  metric_name       = "ApproximateAgeOfOldestMessage"
  dimensions = {
    QueueName = "agentic-ai-cluster"
  }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  comparison_operator = "GreaterThanThreshold"
  threshold           = 120
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}
