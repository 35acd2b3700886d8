"""How many bytes one weight takes, as a command line or a model's name says."""

import re

from stoker.catalog.models import Model

FOUR_BITS = 0.53
"""Half a byte and 6 % of scales."""

_BY_WORD = {
    "fp8": 1.0,
    "fbgemm_fp8": 1.0,
    "ptpc_fp8": 1.0,
    "int8": 1.0,
    "experts_int8": 1.0,
    "awq": FOUR_BITS,
    "awq_marlin": FOUR_BITS,
    "gptq": FOUR_BITS,
    "gptq_marlin": FOUR_BITS,
    "bitsandbytes": FOUR_BITS,
    "nvfp4": FOUR_BITS,
    "modelopt_fp4": FOUR_BITS,
    "mxfp4": FOUR_BITS,
}
"""vLLM's `--quantization`. Those that hold several widths (`compressed-tensors`) are read from the name."""

_BY_NAME = (
    (r"w8a8|int8|8-?bit|fp8|gptq-int8|w8a16", 1.0),
    (r"awq|gptq|int4|4-?bit|w4a16|nvfp4|fp4|bnb", FOUR_BITS),
)
_SEVERAL = frozenset({"compressed-tensors", "modelopt", "quark", "auto-round", "inc", "torchao"})


def layer_bytes(quantization: str, name: str, model: Model) -> tuple[float, str]:
    """Bytes of one weight of a layer, and a remark where that was not certain. The command line is believed first, then
    the name, then how the model is published."""
    word = quantization.strip().lower()
    if model.stored_as == "mxfp4" and word in ("", "mxfp4"):
        return model.stored_bytes, ""
    if word in _BY_WORD and not (word.startswith("gptq") and _in_name(name) == 1.0):
        return _BY_WORD[word], ""
    named = _in_name(name)
    if named is not None:
        return named, ""
    if word in _SEVERAL:
        return 1.0, f"--quantization {quantization} may be of several widths: taken as 8 bits"
    if word:
        return model.stored_bytes, f"--quantization {quantization} is not known here: taken as published"
    return model.stored_bytes, ""


def _in_name(name: str) -> float | None:
    text = name.lower()
    return next((bytes_each for pattern, bytes_each in _BY_NAME if re.search(rf"(?<![a-z])({pattern})", text)), None)
