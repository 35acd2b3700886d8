"""Kubernetes objects as data: read with the place of every value, seen as workloads and pools, mended in their text.

Used by `lint`, `simulate` and `deploy`, for anybody's manifests. It judges nothing: what a value means for a cluster is
said by those above.
"""
