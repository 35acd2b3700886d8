"""Make golden.npz: logits of the default weights, computed by `transformers`. Run it when the weights change:

python tests/nn/make_golden.py      (an environment with torch, transformers and this package)
"""

from pathlib import Path

import numpy as np
import torch
from nn_builders import random_tokens
from transformers import LlamaForCausalLM

from stoker.nn.bundle import default_folder

LENGTH = 150  # more than two blocks of a prompt
KEPT = [0, 1, 63, 64, 100, 127, 128, 149]


def main() -> None:
    model, report = LlamaForCausalLM.from_pretrained(default_folder(), dtype=torch.float32, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    tokens = random_tokens(LENGTH, seed=7)
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].numpy()
    path = Path(__file__).with_name("golden.npz")
    np.savez_compressed(path, tokens=np.array(tokens), positions=np.array(KEPT), logits=logits[KEPT])


if __name__ == "__main__":
    main()
