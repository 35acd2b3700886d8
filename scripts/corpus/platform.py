"""Questions about the platform's own ideas. What the answers say must stay true of the platform."""

import random

from corpus.talk import loosely

CONCEPTS: dict[str, str] = {
    "Stoker": "Stoker is a platform that gives agents models to call. One file says what you want, and you can run it "
    "on a laptop, predict its cost, or deploy it on EKS.",
    "the gateway": "The gateway takes each request, checks the key and the budget, and sends the request to a model.",
    "a worker": "A worker sits beside an engine, takes tasks from the queue, and finishes each one once.",
    "an engine": "An engine is anything that serves the OpenAI API: vLLM on a GPU, a hosted API, or the small "
    "model here.",
    "a task": "A task is a request that waits in the queue. It survives a crash, and its result is stored once.",
    "the queue": "The queue is a Redis stream for each model. Its backlog is what the autoscaler looks at.",
    "a lease": "A lease says which worker has a task, and until when. The worker renews it while it works.",
    "a dead letter": "A dead letter is a task that failed too often. A person can look at it and run it again.",
    "the ledger": "The ledger keeps one usage record for each finished request.",
    "a budget": "A budget is the most that a tenant may spend. It is reserved before a run and settled after it.",
    "a tenant": "A tenant is a team or a customer with keys, limits and a budget of its own.",
    "a token": "A token is a small piece of text. A model reads and writes tokens, and they are what you pay for.",
    "a replica": "A replica is one running copy of a model.",
    "the simulator": "The simulator says what latency, replicas, nodes and dollars to expect, before anything "
    "is paid for.",
    "the linter": "The linter reads manifests and finds what can not work, such as a pod that fits no node.",
    "a spot instance": "A spot instance is a cheap machine that can be taken away after a short notice.",
    "a drill": "A drill kills or interrupts something on purpose and says if anything was lost.",
    "KEDA": "KEDA scales workloads in Kubernetes by events, such as the length of a queue.",
    "Karpenter": "Karpenter adds and removes nodes in Kubernetes to fit the pods that wait.",
    "Kubernetes": "Kubernetes runs containers on many machines.",
    "Redis": "Redis is a fast store in memory. Stoker keeps its queues there.",
    "EKS": "EKS is the Kubernetes service of AWS.",
    "a GPU": "A GPU is a processor that does many small sums at once, so large models run fast on it.",
    "an agent": "An agent is a program that calls a model in steps until its work is done.",
    "LoRA": "LoRA is a way to fine-tune a model by training a few small matrices instead of all weights.",
    "continuous batching": "With continuous batching, a new request joins the running batch at the next step.",
    "a KV cache": "A KV cache keeps what the model computed for earlier tokens, so that each step is cheap.",
    "a checkpoint": "A checkpoint is the saved state of a training run, from which it can go on.",
}


def concept(rng: random.Random) -> tuple[str, str]:
    name = "Stoker" if rng.random() < 0.12 else rng.choice(list(CONCEPTS))
    asked = [
        f"What is {name}?",
        f"What is {name}?",
        f"Explain {name}.",
        f"Tell me about {name}.",
        f"What is {name} for?",
        f"Can you explain what {name} is?",
        f"What does {name} mean?",
        f"In one sentence, what is {name}?",
        f"Describe {name}.",
    ]
    return loosely(rng, rng.choice(asked)), CONCEPTS[name]


def plain(rng: random.Random) -> str:
    return " ".join(CONCEPTS[name] for name in rng.sample(list(CONCEPTS), 4)) + "\n"
