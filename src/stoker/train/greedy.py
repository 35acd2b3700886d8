"""Greedy answers by the torch module that training trains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from stoker.nn.detokenizing import decoder_of
from stoker.spec import Run
from stoker.train.encoding import Encoded, Rules
from stoker.train.formats import Chat, Example, Prompt
from stoker.train.model import Model, TorchRows, build, forward
from stoker.train.suites import Question


@dataclass(frozen=True)
class Greedy:
    model: Model
    decode: Callable[[Sequence[int]], str]
    device: torch.device

    def answer(self, question: Question, max_tokens: int) -> str:
        """Raises ValueError in words for messages that the model's template does not take."""
        prompt, ends = self._asked(question)
        said: list[int] = []
        tokens = prompt.tokens.tolist()
        while len(said) < max_tokens and len(tokens) < self.model.config.max_position_embeddings:
            logits = forward(self.model.module, self._rows(tokens, prompt))[0, -1]
            token = int(logits.argmax())
            if token in ends:
                break
            said.append(token)
            tokens.append(token)
        return self.decode(said)

    def _asked(self, question: Question) -> tuple[Encoded, set[int]]:
        """What stands before an empty answer as training encodes it, and the tokens that end an answer: the first that
        counts is the one after which nothing comes."""
        limit = self.model.config.max_position_embeddings
        sample = self.model.encoder.encode(_with_no_answer(question), Rules(max_length=limit, too_long="fail"))
        if sample is None:
            raise ValueError(f"the question has more than the {limit} tokens that the model knows positions for")
        whole = sample.chosen
        begin = int((whole.weights > 0).argmax())
        ends = {int(whole.tokens[begin]), *self.model.config.end_tokens}
        return Encoded(whole.tokens[:begin], whole.weights[:begin], whole.features), ends

    def _rows(self, tokens: Sequence[int], prompt: Encoded) -> TorchRows:
        row = torch.tensor([tokens], device=self.device)
        features = torch.zeros((0, 1)) if prompt.features is None else torch.from_numpy(prompt.features)
        return TorchRows(
            tokens=row,
            targets=torch.zeros_like(row),
            weights=torch.zeros(row.shape, device=self.device),
            documents=torch.zeros(row.shape, dtype=torch.int32, device=self.device),
            positions=torch.arange(row.shape[1], dtype=torch.int32, device=self.device)[None],
            features=features.to(self.device),
            is_packed=False,
        )


def _with_no_answer(question: Question) -> Example:
    if question.prompt is not None:
        return Prompt(question.prompt, "")
    before = [{**each, "weight": 0} if each.get("role") == "assistant" else each for each in question.messages]
    return Chat([*before, {"role": "assistant", "content": ""}], question.tools)


def load(run: Run, folder: Path) -> Greedy:
    """Raises InvalidInput as `train.model.build`."""
    plain = run.model_copy(update={"method": "full", "dropout": 0.0, "compile": False, "recompute": False})
    model = build(plain, folder)
    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    model.module.eval().to(device)
    return Greedy(model, decoder_of(folder), device)
