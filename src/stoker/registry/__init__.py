"""What a run leaves behind, and how a model becomes servable: the checkpoint format, its commit protocol, models.

stores       objects by key, in a folder or in S3: the interface and its errors
folders, s3  the two
blocks       which bytes of a piece of a tensor go where in another one
shards       tensors to one safetensors object and back, hashed as they go
documents    JSON that anybody may have written, read with bounds
manifests    what a checkpoint is made of, as JSON with digests
heads        which checkpoints a run has: one small object, moved by compare-and-swap with a fencing epoch
pointers     HEAD and its copy in a store
runs         publish, find the newest that is whole, collect what is not needed
models       published weights, bound to their digest
"""
