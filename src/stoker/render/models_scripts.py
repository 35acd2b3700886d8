"""What runs in vLLM's image beside vLLM: programs that are handed to an interpreter as text."""

FILL_FILE_SYSTEM = """\
import os
from huggingface_hub import snapshot_download

print(snapshot_download(os.environ["MODEL"], ignore_patterns=os.environ["LEFT_OUT"].split()))
"""
"""Into the hub's cache, $HF_HOME, where every replica finds it. What is there already is not downloaded again."""

FILL_BUCKET = """\
import fnmatch
import os
import shutil
import sys
import boto3
from huggingface_hub import HfApi, hf_hub_download

model, folder = os.environ["MODEL"], "/weights/files"
bucket, _, prefix = os.environ["TARGET"].removeprefix("s3://").partition("/")
s3 = boto3.client("s3")
note = prefix + ".stoker-weights"


def say(*state):
    s3.put_object(Bucket=bucket, Key=note, Body=" ".join((model, *state)).encode())


pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
keys = {each["Key"] for page in pages for each in page.get("Contents", [])}
said = s3.get_object(Bucket=bucket, Key=note)["Body"].read().decode().split() if note in keys else []
if said == [model, "complete"]:
    sys.exit(print("they are there"))
if keys and not said:
    sys.exit(print("somebody else has put weights there; they stay as they are"))
if said and said[0] != model:
    sys.exit("there are weights of " + said[0] + "; remove them first: " + os.environ["TARGET"])
revision = said[2] if len(said) > 2 else HfApi().model_info(model).sha
say("begun", revision)
for file in sorted(HfApi().list_repo_files(model, revision=revision)):
    if prefix + file in keys or any(fnmatch.fnmatch(file, each) for each in os.environ["LEFT_OUT"].split()):
        continue
    path = hf_hub_download(model, file, revision=revision, local_dir=folder)
    s3.upload_file(path, bucket, prefix + file)
    for each in os.listdir("/weights"):
        shutil.rmtree("/weights/" + each)
say("complete")
"""
"""Under $TARGET, one file after the other, so that there has to be room for the largest alone. A note beside the files
says of which model and revision they are and whether all of them are there: a Job that was killed in the middle goes on
with the files that are missing, since S3 shows none that is not whole, and weights that somebody else has put there are
left alone.

Source: huggingface_hub 0.34, hf_hub_download (`local_dir` keeps nothing in the cache but Xet's own chunks, which lie
under $HF_HOME, and so go with the rest)."""

DRAIN = """\
import os
import sys
import time
import urllib.request

ends = time.monotonic() + float(sys.argv[1])
url = "http://" + os.environ.get("LWS_LEADER_ADDRESS", "127.0.0.1") + ":8000/metrics"
time.sleep(5)
while time.monotonic() < ends:
    try:
        lines = urllib.request.urlopen(url, timeout=2).read().decode().splitlines()
    except OSError:
        break
    counts = [line for line in lines if line.startswith(("vllm:num_requests_running", "vllm:num_requests_waiting"))]
    if not any(float(line.rsplit(" ", 1)[1]) for line in counts):
        break
    time.sleep(1)
"""
"""Before an engine gets SIGTERM: until it has nothing left to do, whoever sent it, or for as many seconds as are given.
Five at least: its worker withdraws at once, gateways believe an announcement for 3.5 s, and a claim that was under way
starts within one. The embedded engine has vLLM's metrics. A further node of a replica looks at the leader."""

RAY_LEADER = """\
ray start --head --port=6379 --node-ip-address="$POD_IP" --object-store-memory=536870912 \\
  --include-dashboard=false --disable-usage-stats
exec vllm serve "$@"
"""
"""vLLM then waits up to half an hour until Ray has the GPUs of all nodes (VLLM: PG_WAIT_TIMEOUT in ray_utils)."""

RAY_WORKER = """\
until ray health-check --address "$LWS_LEADER_ADDRESS:6379"; do sleep 5; done
exec ray start --address="$LWS_LEADER_ADDRESS:6379" --node-ip-address="$POD_IP" --object-store-memory=536870912 \\
  --disable-usage-stats --block
"""
"""Ends when the leader does; the LeaderWorkerSet then makes the whole group again."""
