"""The frozen language model: the default model's own weights in plain PyTorch, and prompts as serving writes them."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hokku.chat.gguf_vocab import spec_from_gguf
from hokku.chat.template import CHATML, ChatTemplate
from hokku.chat.tokenizer import Tokenizer
from hokku.models.checkpoint import Checkpoint, open_checkpoint
from hokku.models.config import ModelConfig
from hokku.protocol.messages import Conversation, TextPart, Turn
from hokku.registry.cache import ModelCache
from hokku.registry.pull import pull
from hokku.registry.registry import DEFAULT_MODEL, Registry
from hokku.settings import load_settings
from training.attention import attention

END_OF_TURN = "<|im_end|>"
Cache = dict[int, tuple[Tensor, Tensor]]  # keys and values by layer, each [B][kv_heads][T][D]
PLACE_HOLDER = "\N{OBJECT REPLACEMENT CHARACTER}"


def default_checkpoint() -> Checkpoint:
    """The weights that the default manifest names, fetched if they are not in the model cache."""
    settings = load_settings({}, os.environ)
    manifest = Registry.load(settings.data_dir).resolve(DEFAULT_MODEL)
    return open_checkpoint(Path(pull(manifest, ModelCache(settings.cache_dir))))


class Layer(nn.Module):
    """One Llama layer; rotary pairs lie next to each other, as GGUF stores them."""

    def __init__(self, checkpoint: Checkpoint, index: int) -> None:
        super().__init__()
        config = checkpoint.config
        self.index = index
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim

        def weight(name: str) -> Tensor:
            return torch.tensor(checkpoint.floats(f"blk.{index}.{name}.weight"))

        self.attention_gain = nn.Buffer(weight("attn_norm"))
        self.qkv = nn.Buffer(torch.cat([weight("attn_q"), weight("attn_k"), weight("attn_v")]))
        self.output = nn.Buffer(weight("attn_output"))
        self.feed_forward_gain = nn.Buffer(weight("ffn_norm"))
        self.gate_up = nn.Buffer(torch.cat([weight("ffn_gate"), weight("ffn_up")]))
        self.down = nn.Buffer(weight("ffn_down"))

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], eps: float, mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """x [B][T][C] → the same shape. `mask` as in `attention`."""
        batch, length, _ = x.shape
        qkv = functional.linear(functional.rms_norm(x, x.shape[-1:], self.attention_gain, eps), self.qkv)
        parts = [self.heads, self.kv_heads, self.kv_heads]
        q, k, v = qkv.view(batch, length, -1, self.head_dim).transpose(1, 2).split(parts, dim=1)
        q, k = _rotated(q, *rotation), _rotated(k, *rotation)
        if cache is not None:
            if self.index in cache:
                k, v = (torch.cat([old, new], 2) for old, new in zip(cache[self.index], (k, v), strict=True))
            cache[self.index] = (k, v)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        if mask is None:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=length == k.shape[2])
        else:
            mixed = attention(q, k, v, mask)
        x = x + functional.linear(mixed.transpose(1, 2).reshape(batch, length, -1), self.output)
        y = functional.linear(functional.rms_norm(x, x.shape[-1:], self.feed_forward_gain, eps), self.gate_up)
        gate, up = y.chunk(2, dim=-1)
        return x + functional.linear(functional.silu(gate) * up, self.down)


class LanguageModel(nn.Module):
    """Embeddings in, hidden states out. Nothing in it is trained: its weights are buffers."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.config: ModelConfig = checkpoint.config
        self.embedding = nn.Buffer(torch.tensor(checkpoint.floats("token_embd.weight")))  # [V][C]
        self.gain = nn.Buffer(torch.tensor(checkpoint.floats("output_norm.weight")))
        self.layers = nn.ModuleList(Layer(checkpoint, index) for index in range(self.config.layers))
        self.to(dtype)

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """x [B][T][C], positions [B][T] → hidden states [B][T][C], normed and ready for `logits`.

        With a `cache` all of x comes after what is in it, and one row at a time once it holds something.
        """
        half = self.config.head_dim // 2
        rates = self.config.rope_theta ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
        angles = positions[:, None, :, None].float() * rates  # [B][1][T][D/2]
        rotation = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in self.layers:
            x = layer(x, rotation, self.config.rms_eps, mask, cache)
        return functional.rms_norm(x, x.shape[-1:], self.gain, self.config.rms_eps)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [N][C] → float32 [N][V]; the output layer is the embedding."""
        return functional.linear(hidden, self.embedding).float()


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack((first * cosines - second * sines, first * sines + second * cosines), -1).flatten(-2)


def embedding_of(model: LanguageModel, prompts: Prompts, words: str) -> Tensor:
    """The mean embedding of some words as they stand within a text, float32 [C] on the CPU."""
    ids = prompts.tokenizer.encode(f" {words}")
    if len(alone := prompts.tokenizer.encode(words)) < len(ids):
        ids = alone  # digits: the space before one is a token of its own
    return model.embedding[ids].float().mean(0).cpu()


@dataclass(frozen=True)
class Prompt:
    """A prompt around a picture: token ids before its rows and after them."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class Prompts:
    """Renders questions as the server does, with the picture as a block of the user's turn."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        spec = spec_from_gguf(checkpoint.metadata)
        self.tokenizer = Tokenizer(spec)
        bos, eos = (self.tokenizer.control_text(token) for token in (spec.bos_id, spec.eos_id))
        alphabet = self.tokenizer.typed_alphabet
        self._template = ChatTemplate(spec.chat_template or CHATML, alphabet, bos=bos, eos=eos)
        end = self.tokenizer.control_id(END_OF_TURN)
        if end is None:
            raise ValueError(f"the tokenizer has no {END_OF_TURN}")
        self.end = end
        self._cached = functools.lru_cache(65536)(self._render)

    def render(self, question: str, system: str = "", *, picture_last: bool = False) -> Prompt:
        """Ids of the system prompt, the turn and the opening of the reply, around the picture."""
        return self._cached(question, system, picture_last)

    def answer(self, text: str) -> list[int]:
        """Ids of a reply, its end of turn included."""
        return [*self.tokenizer.encode(text), self.end]

    def text(self, token_ids: list[int]) -> str:
        """What a reply's ids say, up to its end."""
        if self.end in token_ids:
            token_ids = token_ids[: token_ids.index(self.end)]
        return self.tokenizer.decode(token_ids)

    def _render(self, question: str, system: str, picture_last: bool) -> Prompt:
        blocks = [TextPart(PLACE_HOLDER), TextPart(question)]
        turn = Turn("user", tuple(reversed(blocks) if picture_last else blocks))
        rendered = self._template.render(Conversation((TextPart(system),) if system else (), (turn,)))
        before, holder, after = rendered.partition(self.tokenizer.typed_alphabet.typed(PLACE_HOLDER))
        if not holder:
            raise ValueError("the template does not show the picture's place")
        encode = self.tokenizer.encode_rendered
        return Prompt(tuple(encode(before)), tuple(encode(after)))
