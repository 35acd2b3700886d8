"""What runs in vLLM's image beside vLLM: programs that are handed to an interpreter as text."""

FILL_FILE_SYSTEM = """\
import os
from huggingface_hub import snapshot_download

print(snapshot_download(os.environ["MODEL"], ignore_patterns=os.environ["LEFT_OUT"].split()))
"""
"""Into the hub's cache, $HF_HOME, where every replica finds it. What is there already is not downloaded again."""

FILL_BUCKET = """\
import os
import sys
import boto3
from huggingface_hub import snapshot_download

model, folder = os.environ["MODEL"], "/weights/files"
bucket, _, prefix = os.environ["TARGET"].removeprefix("s3://").partition("/")
s3 = boto3.client("s3")
note = prefix + ".stoker-weights"


def say(state):
    s3.put_object(Bucket=bucket, Key=note, Body=(model + " " + state).encode())


keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]
said = s3.get_object(Bucket=bucket, Key=note)["Body"].read().decode() if note in keys else ""
if said == model + " complete":
    sys.exit(print("they are there"))
if keys and not said:
    sys.exit(print("somebody else has put weights there; they stay as they are"))
if said and said.partition(" ")[0] != model:
    sys.exit("there are weights of " + said.partition(" ")[0] + "; remove them first: " + os.environ["TARGET"])
say("begun")
snapshot_download(model, local_dir=folder, ignore_patterns=os.environ["LEFT_OUT"].split())
for at, folders, files in os.walk(folder):
    folders[:] = [each for each in folders if not each.startswith(".")]
    for file in files:
        path = os.path.join(at, file)
        s3.upload_file(path, bucket, prefix + os.path.relpath(path, folder))
say("complete")
"""
"""Under $TARGET. A note beside the files says of which model they are and whether all of them are there: a Job that was
killed in the middle goes on, and weights that somebody else has put there are left alone."""

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
