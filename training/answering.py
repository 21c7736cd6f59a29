"""The language model asked about rows: the training loss over packed questions, and its greedy reply."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training.feeder import Example
from training.language import Cache, LanguageModel, Prompt, Prompts
from training.notes import NUM_ROWS

_HOLE = -1  # in a sequence's ids: a row of the picture stands here


def _packed(example: Example, prompts: Prompts) -> tuple[list[int], list[int], list[int], list[bool]]:
    """One sequence for all questions about a picture: ids, positions, segments and whether an id belongs to an answer.

    Segment 0 is what all questions share; every question sees it and itself only.
    """
    rendered = [
        prompts.render(question.text, example.system, picture_last=example.picture_last)
        for question in example.questions
    ]
    ids = [*rendered[0].before, *[_HOLE] * NUM_ROWS]
    positions, segments, is_answer = list(range(len(ids))), [0] * len(ids), [False] * len(ids)
    shared = len(ids)
    for segment, (prompt, question) in enumerate(zip(rendered, example.questions, strict=True), 1):
        answer = prompts.answer(question.answer)
        own = [*prompt.after, *answer]
        ids += own
        positions += range(shared, shared + len(own))
        segments += [segment] * len(own)
        is_answer += [False] * len(prompt.after) + [True] * len(answer)
    return ids, positions, segments, is_answer


def _padded(lists: Sequence[Sequence[int]], value: int) -> Tensor:
    length = max(map(len, lists))
    return torch.tensor([[*ids, *[value] * (length - len(ids))] for ids in lists])


def answer_loss(
    model: LanguageModel, prompts: Prompts, rows: Tensor, examples: Sequence[Example]
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the answers' tokens, and the share of answers predicted whole. rows [B][64][C]."""
    packed = [_packed(example, prompts) for example in examples]
    device = rows.device
    ids = _padded([p[0] for p in packed], 0).to(device)
    positions = _padded([p[1] for p in packed], 0).to(device)
    segments = _padded([p[2] for p in packed], -2).to(device)
    is_answer = _padded([p[3] for p in packed], 0).bool().to(device)
    length = ids.shape[1]
    x = model.embedding[ids.clamp(min=0)]
    x = x.masked_scatter((ids == _HOLE)[..., None], rows.to(x.dtype))
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    same = (segments[:, :, None] == segments[:, None, :]) | (segments[:, None, :] == 0)
    mask = torch.zeros_like(same, dtype=x.dtype).masked_fill_(~(causal & same), float("-inf"))
    hidden = model(x, positions, mask[:, None])
    # The id before an answer's token predicts it: within a segment that is the one to its left.
    predicts = torch.zeros_like(is_answer)
    predicts[:, :-1] = is_answer[:, 1:]
    logits = model.logits(hidden[predicts])
    wanted = ids[is_answer]
    loss = functional.cross_entropy(logits, wanted)
    numbers = (torch.arange(len(ids), device=device)[:, None] * 1000 + segments)[is_answer]
    _, which = numbers.unique(return_inverse=True)
    wrong = torch.zeros(int(which.max()) + 1, device=device)
    wrong.index_add_(0, which, (logits.argmax(-1) != wanted).float())
    return loss, (wrong == 0).float().mean()


@torch.no_grad()
def reply(model: LanguageModel, prompts: Prompts, rows: Tensor, prompt: Prompt, most_tokens: int) -> str:
    """The greedy reply to a prompt whose picture's rows are these, [64][C]."""
    device = rows.device
    before, after = (
        model.embedding[torch.tensor(ids, device=device)] for ids in (prompt.before, prompt.after)
    )
    x = torch.cat([before, rows.to(before.dtype), after])[None]
    cache: Cache = {}
    said: list[int] = []
    position = 0
    while len(said) < most_tokens and (not said or said[-1] != prompts.end):
        positions = torch.arange(position, position + x.shape[1], device=device)[None]
        position += x.shape[1]
        hidden = model(x, positions, cache=cache)
        said.append(int(model.logits(hidden[0, -1:]).argmax()))
        x = model.embedding[said[-1]][None, None]
    return prompts.text(said)
