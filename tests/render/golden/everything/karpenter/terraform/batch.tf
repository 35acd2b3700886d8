# Made by `stoker render`; change platform.yaml and render again.

resource "aws_iam_role" "batch_instance" {
  name = "everything-us-west-2-batch-instance"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Action = "sts:AssumeRole"
        Principal = {
          Service = "ec2.amazonaws.com"
        }
      },
    ]
  })
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

resource "aws_iam_role_policy_attachment" "batch_instance" {
  role       = aws_iam_role.batch_instance.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
}

resource "aws_iam_instance_profile" "batch_instance" {
  name = "everything-us-west-2-batch-instance"
  role = aws_iam_role.batch_instance.name
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

resource "aws_iam_role" "batch_job" {
  name = "everything-us-west-2-batch-job"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Action = "sts:AssumeRole"
        Principal = {
          Service = "ecs-tasks.amazonaws.com"
        }
      },
    ]
  })
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

resource "aws_iam_role_policy" "batch_job" {
  name = "data"
  role = aws_iam_role.batch_job.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["arn:aws:s3:::everything-data/train.jsonl"]
      },
      {
        Effect   = "Allow"
        Action   = ["s3:ListBucket"]
        Resource = ["arn:aws:s3:::everything-checkpoints-111122223333", "arn:aws:s3:::everything-data"]
      },
      {
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
        Resource = ["arn:aws:s3:::everything-checkpoints-111122223333/runs/*"]
      },
    ]
  })
}

resource "aws_placement_group" "training" {
  name     = "everything-training"
  strategy = "cluster"
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
}

# An EFA interface on each network card; the image of the node needs EFA's driver.
resource "aws_launch_template" "training" {
  name                   = "everything-training"
  update_default_version = true
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size           = 200
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  network_interfaces {
    network_card_index    = 0
    device_index          = 0
    interface_type        = "efa"
    delete_on_termination = true
    security_groups       = var.training_security_group_ids
  }

  network_interfaces {
    network_card_index    = 1
    device_index          = 1
    interface_type        = "efa-only"
    delete_on_termination = true
    security_groups       = var.training_security_group_ids
  }

  network_interfaces {
    network_card_index    = 2
    device_index          = 1
    interface_type        = "efa-only"
    delete_on_termination = true
    security_groups       = var.training_security_group_ids
  }

  network_interfaces {
    network_card_index    = 3
    device_index          = 1
    interface_type        = "efa-only"
    delete_on_termination = true
    security_groups       = var.training_security_group_ids
  }

  tag_specifications {
    resource_type = "instance"
    tags = {
      Project     = "everything"
      ManagedBy   = "stoker"
      CostCenter  = "ml-platform"
      Environment = "production"
    }
  }
}

# On demand: AWS Batch does not run multi-node jobs on spot.
resource "aws_batch_compute_environment" "training" {
  type = "MANAGED"
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
  depends_on = [aws_iam_role_policy_attachment.batch_instance]

  compute_resources {
    type                = "EC2"
    allocation_strategy = "BEST_FIT_PROGRESSIVE"
    instance_role       = aws_iam_instance_profile.batch_instance.arn
    instance_type       = ["p4d.24xlarge"]
    min_vcpus           = 0
    max_vcpus           = 192
    subnets             = var.training_subnet_ids
    placement_group     = aws_placement_group.training.name

    launch_template {
      launch_template_id = aws_launch_template.training.id
      version            = aws_launch_template.training.latest_version
    }

    ec2_configuration {
      image_type        = "ECS_AL2023_NVIDIA"
      image_id_override = var.training_image_id == "" ? null : var.training_image_id
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_batch_job_queue" "training" {
  name     = "everything-training"
  state    = "ENABLED"
  priority = 1
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }

  compute_environment_order {
    order               = 1
    compute_environment = aws_batch_compute_environment.training.arn
  }
}

# A run is started by
# aws batch submit-job --job-name finetune \
# --job-queue everything-training \
# --job-definition everything-training
resource "aws_batch_job_definition" "training" {
  name                  = "everything-training"
  type                  = "multinode"
  platform_capabilities = ["EC2"]
  propagate_tags        = true
  tags = {
    Project     = "everything"
    ManagedBy   = "stoker"
    CostCenter  = "ml-platform"
    Environment = "production"
  }
  node_properties = jsonencode({
    numNodes = 2
    mainNode = 0
    nodeRangeProperties = [
      {
        targetNodes = "0:1"
        container = {
          image = "111122223333.dkr.ecr.us-west-2.amazonaws.com/stoker/trainer:0.1.0"
          command = [
            "/bin/sh",
            "-ec",
            "printf '%s' \"$STOKER_RUN\" > /tmp/run.yaml\nexport PET_NODE_RANK=\"$AWS_BATCH_JOB_NODE_INDEX\" PET_MASTER_ADDR=\"$AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS\"\nif [ -z \"$PET_MASTER_ADDR\" ]; then export PET_MASTER_ADDR=\"$(hostname -i | cut -d' ' -f1)\"; fi\nexec stoker train /tmp/run.yaml",
          ]
          user       = "1000"
          jobRoleArn = aws_iam_role.batch_job.arn
          resourceRequirements = [
            {
              type  = "GPU"
              value = "8"
            },
            {
              type  = "VCPU"
              value = "93"
            },
            {
              type  = "MEMORY"
              value = "1059840"
            },
          ]
          environment = [
            {
              name  = "AWS_REGION"
              value = "us-west-2"
            },
            {
              name  = "AWS_DEFAULT_REGION"
              value = "us-west-2"
            },
            {
              name  = "CHECKPOINT_S3"
              value = "s3://everything-checkpoints-111122223333/runs/finetune/"
            },
            {
              name  = "HOME"
              value = "/tmp"
            },
            {
              name  = "NCCL_DEBUG"
              value = "INFO"
            },
            {
              name  = "NCCL_DEBUG_SUBSYS"
              value = "INIT,NET"
            },
            {
              name  = "STOKER_STATE"
              value = "/tmp/stoker"
            },
            {
              name  = "FI_PROVIDER"
              value = "efa"
            },
            {
              name  = "FI_EFA_USE_HUGE_PAGE"
              value = "0"
            },
            {
              name  = "PET_NNODES"
              value = "2"
            },
            {
              name  = "PET_MASTER_PORT"
              value = "29500"
            },
            {
              name  = "STOKER_RUN"
              value = "name: finetune\nbase: Qwen/Qwen3-8B\ndata: s3://everything-data/train.jsonl\ncheckpoints: s3://everything-checkpoints-111122223333/runs/finetune/\nnodes: 2\ngpus: 8\nprices:\n  region: us-west-2\nrelaunches: 0\nevaluation:\n  suites:\n  - name: exam\n    data: s3://everything-checkpoints-111122223333/exam.jsonl\n  leastScore: 0.85\nregisterAs: general\npublish: s3://everything-checkpoints-111122223333/registry/\n"
            },
          ]
          linuxParameters = {
            initProcessEnabled = true
            sharedMemorySize   = 65536
            devices = [
              {
                hostPath      = "/dev/infiniband/uverbs0"
                containerPath = "/dev/infiniband/uverbs0"
                permissions   = ["READ", "WRITE", "MKNOD"]
              },
              {
                hostPath      = "/dev/infiniband/uverbs1"
                containerPath = "/dev/infiniband/uverbs1"
                permissions   = ["READ", "WRITE", "MKNOD"]
              },
              {
                hostPath      = "/dev/infiniband/uverbs2"
                containerPath = "/dev/infiniband/uverbs2"
                permissions   = ["READ", "WRITE", "MKNOD"]
              },
              {
                hostPath      = "/dev/infiniband/uverbs3"
                containerPath = "/dev/infiniband/uverbs3"
                permissions   = ["READ", "WRITE", "MKNOD"]
              },
            ]
          }
          ulimits = [
            {
              name      = "memlock"
              hardLimit = -1
              softLimit = -1
            },
          ]
          volumes = [
            {
              name = "scratch"
            },
          ]
          mountPoints = [
            {
              sourceVolume  = "scratch"
              containerPath = "/tmp"
              readOnly      = false
            },
          ]
          instanceType = "p4d.24xlarge"
        }
      },
    ]
  })

  retry_strategy {
    attempts = 3

    evaluate_on_exit {
      action           = "RETRY"
      on_status_reason = "Host EC2*"
    }

    evaluate_on_exit {
      action       = "RETRY"
      on_exit_code = "75"
    }

    evaluate_on_exit {
      action    = "EXIT"
      on_reason = "*"
    }
  }

  timeout {
    attempt_duration_seconds = 604800
  }
}
