"""The root module of Terraform: the cluster, and all that the platform needs of AWS (`stoker render --terraform`)."""
