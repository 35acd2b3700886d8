"""The one home of boto3: what Stoker calls of AWS, as small objects of its own (a queue is asynchronous, a bucket
blocks). Needs `stoker[aws]`; without it the modules can be imported, and calls say what is missing. Knows nothing of
the domain."""
