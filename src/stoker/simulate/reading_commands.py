"""Which engine a container runs, and with which options: by its command line, whatever shell is around it, else by its
image.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stoker.manifests.objects import look, sections

Kind = Literal["vllm", "tgi", "sglang", "triton", "llama.cpp", "ollama", "stoker engine", "stoker worker"]
Configs = Mapping[str, Mapping[str, str]]
"""Data of the ConfigMaps of one namespace, by name."""

_SHELLS = ("sh", "bash", "ash", "dash", "zsh")
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}|\$(\w+)")
_OF_KUBERNETES = re.compile(r"\$\((\w+)\)")
_MODULES: Mapping[str, Kind] = {
    "vllm.entrypoints": "vllm",
    "sglang.launch_server": "sglang",
    "stoker.engine": "stoker engine",
    "stoker.worker": "stoker worker",
}
_PROGRAMS: Mapping[str, Kind] = {
    "text-generation-launcher": "tgi",
    "tritonserver": "triton",
    "llama-server": "llama.cpp",
}
_SERVING: Mapping[str, Kind] = {"vllm": "vllm", "sglang": "sglang", "ollama": "ollama"}
"""Programs that serve with the word `serve`."""
_IMAGES: Mapping[str, Kind] = {
    "text-generation-inference": "tgi",
    "sglang": "sglang",
    "tritonserver": "triton",
    "llama.cpp": "llama.cpp",
    "ollama": "ollama",
    "vllm": "vllm",
}
"""Parts of an image's name, by which it is known when the command line does not say."""
_SWITCHES = frozenset(
    (
        "enable-prefix-caching",
        "no-enable-prefix-caching",
        "enable-chunked-prefill",
        "no-enable-chunked-prefill",
        "trust-remote-code",
        "enforce-eager",
        "disable-log-requests",
        "disable-log-stats",
        "disable-radix-cache",
        "enable-auto-tool-choice",
        "enable-lora",
        "enable-expert-parallel",
        "enable-sleep-mode",
        "async-scheduling",
        "no-async-scheduling",
    )
)
"""Options without a value, after which a model's name may stand."""
_SHORT = {
    "-tp": "tensor-parallel-size",
    "-pp": "pipeline-parallel-size",
    "-dp": "data-parallel-size",
    "-q": "quantization",
    "-m": "model",
    "-c": "ctx-size",
    "-np": "parallel",
}


@dataclass(frozen=True)
class Engine:
    """`options` are without dashes, underscores as hyphens; a switch has the value `true`. `words` are what stands
    among them."""

    kind: Kind
    options: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def text(self, *names: str) -> str:
        """The first of these that is written; empty where none is."""
        return next((self.options[name] for name in names if self.options.get(name)), "")

    def number(self, *names: str) -> int | None:
        """As vLLM reads numbers: `8192`, `8k` (thousands), `8K` (1024 each)."""
        return whole_number(self.text(*names))

    def is_on(self, name: str, *, otherwise: bool) -> bool:
        if f"no-{name}" in self.options:
            return False
        written = self.options.get(name)
        return otherwise if written is None else written.lower() not in ("false", "0", "off")


def whole_number(text: str) -> int | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)", text.strip())
    if match is None:
        return None
    scale = {"": 1, "k": 10**3, "K": 2**10, "m": 10**6, "M": 2**20, "g": 10**9, "G": 2**30}[match[2]]
    return int(float(match[1]) * scale)


def image(container: dict[str, Any]) -> str:
    found = container.get("image")
    return found if isinstance(found, str) else ""


def environment(container: dict[str, Any], configs: Configs) -> dict[str, str]:
    """What is written, and what ConfigMaps in sight give; nothing of Secrets or of the pod's own fields."""
    found: dict[str, str] = {}
    for _, each in sections(container.get("envFrom")):
        name, prefix = look(each, "configMapRef", "name"), each.get("prefix")
        data = configs.get(name, {}) if isinstance(name, str) else {}
        found |= {f"{prefix or ''}{key}": text for key, text in data.items()}
    for _, each in sections(container.get("env")):
        name, written = each.get("name"), each.get("value")
        reference = look(each, "valueFrom", "configMapKeyRef", "name")
        if not isinstance(name, str):
            continue
        if isinstance(written, str | int | float):
            found[name] = _expanded(str(written), found)
        elif isinstance(reference, str):
            key = look(each, "valueFrom", "configMapKeyRef", "key")
            text = configs.get(reference, {}).get(key) if isinstance(key, str) else None
            if text is not None:
                found[name] = text
    return found


def engine_of(container: dict[str, Any], env: Mapping[str, str]) -> Engine | None:
    """None where neither the command line nor the image is one that is known."""
    command, args = (_words(container.get(key), env) for key in ("command", "args"))
    for words in _commands([*command, *args], env):
        found = _of_words(words)
        if found is not None:
            return found
    kind = _of_image(image(container))
    if kind is None:
        return None
    options, rest = _options(kind, [] if command else args)
    return Engine(kind, options, rest)


def _words(tree: Any, env: Mapping[str, str]) -> list[str]:
    return [_expanded(str(each), env) for each in tree] if isinstance(tree, list) else []


def _expanded(text: str, env: Mapping[str, str]) -> str:
    """As Kubernetes fills in `$(NAME)`."""
    return _OF_KUBERNETES.sub(lambda match: env.get(match[1], match[0]), text)


def _commands(words: list[str], env: Mapping[str, str]) -> list[list[str]]:
    """The command line, or those of the script that a shell is given."""
    at = next((i for i, each in enumerate(words[:3]) if _base(each) in _SHELLS), None)
    if at is None:
        return [words]
    flag = next((i for i in range(at + 1, len(words)) if re.fullmatch(r"-[a-z]*c[a-z]*", words[i])), None)
    if flag is None or flag + 1 >= len(words):
        return [words]
    return _of_script(words[flag + 1], words[flag + 3 :], env)


def _of_script(script: str, given: Sequence[str], env: Mapping[str, str]) -> list[list[str]]:
    def filled(match: re.Match[str]) -> str:
        return env.get(match[1] or match[3]) or match[2] or ""

    text = _VARIABLE.sub(filled, script.replace("\\\n", " ").replace("\n", " ; "))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError:
        tokens = text.split()
    commands: list[list[str]] = [[]]
    for token in tokens:
        if token and set(token) <= set(";&|()"):
            commands.append([])
        elif token in ("$@", "$*"):
            commands[-1] += given
        else:
            commands[-1].append(token)
    return [each for each in commands if each]


def _of_words(words: list[str]) -> Engine | None:
    for i, word in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else ""
        kind: Kind | None = _PROGRAMS.get(_base(word))
        rest = words[i + 1 :]
        if kind is None and following == "serve" and _base(word) in _SERVING:
            kind, rest = _SERVING[_base(word)], words[i + 2 :]
        if kind is None and word == "-m":
            kind = next((found for name, found in _MODULES.items() if following.startswith(name)), None)
            rest = words[i + 2 :]
        if kind is not None:
            options, others = _options(kind, rest)
            return Engine(kind, options, others)
    return None


def _options(kind: Kind, words: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    options: dict[str, str] = {}
    others: list[str] = []
    i = 0
    while i < len(words):
        word = words[i]
        i += 1
        name = _option(kind, word)
        if name is None:
            others.append(word)
            continue
        name, has_value, written = name.partition("=")
        if has_value:
            options[name] = written
        elif name in _SWITCHES or i >= len(words) or _option(kind, words[i]) is not None:
            options[name] = "true"
        else:
            options[name] = words[i]
            i += 1
            # vLLM takes several names, and answers by the first.
            while name == "served-model-name" and i < len(words) and _option(kind, words[i]) is None:
                i += 1
    return options, tuple(others)


def _option(kind: Kind, word: str) -> str | None:
    if word.startswith("--") and len(word) > 2:
        name, sign, written = word[2:].partition("=")
        return f"{name.replace('_', '-')}{sign}{written}"
    short = _SHORT.get(word)
    return short if short is not None and (kind == "llama.cpp" or word not in ("-m", "-c", "-np")) else None


def _base(word: str) -> str:
    return word.rpartition("/")[2]


def _of_image(name: str) -> Kind | None:
    return next((kind for part, kind in _IMAGES.items() if part in name.lower()), None)
