# Made by `stoker render`; change platform.yaml and render again.

data "aws_iam_role" "auto_nodes" {
  name = "KarpenterNodeRole-agentic-ai-cluster-auto"
}

# Without it no node of the node classes joins: EKS makes one for its built-in pools only.
resource "aws_eks_access_entry" "auto_nodes" {
  cluster_name  = "agentic-ai-cluster"
  principal_arn = data.aws_iam_role.auto_nodes.arn
  type          = "EC2"
  tags = {
    Project   = "agentic-ai-cluster"
    ManagedBy = "stoker"
  }
}

resource "aws_eks_access_policy_association" "auto_nodes" {
  cluster_name  = "agentic-ai-cluster"
  principal_arn = data.aws_iam_role.auto_nodes.arn
  policy_arn    = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSAutoNodePolicy"
  depends_on    = [aws_eks_access_entry.auto_nodes]

  access_scope {
    type = "cluster"
  }
}
