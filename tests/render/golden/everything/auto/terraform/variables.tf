# Made by `stoker render`; change platform.yaml and render again.

variable "training_image_id" {
  type        = string
  description = "AMI of the nodes that train. Empty: AWS Batch's own (ECS_AL2023_NVIDIA)"
  default     = ""
}

variable "training_security_group_ids" {
  type        = list(string)
  description = "Security groups of the nodes that train; with EFA they allow all traffic among themselves, in and out"
}

variable "training_subnet_ids" {
  type        = list(string)
  description = "Private subnets of the nodes that train, all in one zone"
}

variable "websocket_burst_limit" {
  type        = number
  description = "Messages at once that the WebSocket API lets through."
  default     = 200
}

variable "websocket_rate_limit" {
  type        = number
  description = "Messages a second that the WebSocket API lets through."
  default     = 100
}
