"""`platform.yaml` -> a platform on EKS: plan, apply, diff, status, destroy.

`planning` says what would be done, `applying` does it: Terraform, controllers by Helm, then objects in waves. Decisions
(waves, readiness, differences, which controllers) are pure functions; `cluster`, `terraform` and `helm` are the doors
to what is outside. Nothing is remembered but in Terraform's state and in the cluster's inventory, so doing it again is
how it is resumed.
"""
