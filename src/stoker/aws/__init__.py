"""The one home of boto3: what Stoker calls of AWS, as small asynchronous objects of its own. Needs `stoker[aws]`;
without it the modules can be imported, and calls say what is missing. Knows nothing of the domain."""
