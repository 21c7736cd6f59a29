"""The frozen language model: the default model's own weights in plain PyTorch, and prompts exactly as serving writes them."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hokku.chat.codec import Codec
from hokku.chat.gguf_vocab import spec_from_gguf
from hokku.models.checkpoint import Checkpoint, open_checkpoint
from hokku.models.config import ModelConfig
from hokku.protocol.messages import Conversation, TextPart, Turn
from hokku.registry.cache import ModelCache
from hokku.registry.pull import pull
from hokku.registry.registry import DEFAULT_MODEL, Registry
from hokku.settings import load_settings

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
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim

        def weight(name: str) -> Tensor:
            return torch.from_numpy(checkpoint.floats(f"blk.{index}.{name}.weight"))

        self.attention_gain = nn.Buffer(weight("attn_norm"))
        self.qkv = nn.Buffer(torch.cat([weight("attn_q"), weight("attn_k"), weight("attn_v")]))
        self.output = nn.Buffer(weight("attn_output"))
        self.feed_forward_gain = nn.Buffer(weight("ffn_norm"))
        self.gate_up = nn.Buffer(torch.cat([weight("ffn_gate"), weight("ffn_up")]))
        self.down = nn.Buffer(weight("ffn_down"))

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor, mask: Tensor | None, eps: float) -> Tensor:
        """x [B][T][C] → the same shape. `mask` [B][1][T][T], True where a row may look."""
        batch, length, _ = x.shape
        qkv = functional.linear(functional.rms_norm(x, x.shape[-1:], self.attention_gain, eps), self.qkv)
        q, k, v = qkv.view(batch, length, -1, self.head_dim).transpose(1, 2).split(
            [self.heads, self.kv_heads, self.kv_heads], dim=1
        )
        q, k = _rotated(q, cosines, sines), _rotated(k, cosines, sines)
        mixed = functional.scaled_dot_product_attention(
            q, *(t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v)), mask, is_causal=mask is None
        )
        x = x + functional.linear(mixed.transpose(1, 2).reshape(batch, length, -1), self.output)
        y = functional.linear(functional.rms_norm(x, x.shape[-1:], self.feed_forward_gain, eps), self.gate_up)
        gate, up = y.chunk(2, dim=-1)
        return x + functional.linear(functional.silu(gate) * up, self.down)


class LanguageModel(nn.Module):
    """Embeddings in, hidden states out. Nothing in it is trained: its weights are buffers."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.config: ModelConfig = checkpoint.config
        self.embedding = nn.Buffer(torch.from_numpy(checkpoint.floats("token_embd.weight")))  # [V][C]
        self.gain = nn.Buffer(torch.from_numpy(checkpoint.floats("output_norm.weight")))
        self.layers = nn.ModuleList(Layer(checkpoint, index) for index in range(self.config.layers))
        self.to(dtype)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B][T][C], positions [B][T] → hidden states [B][T][C], normed and ready for `logits`."""
        half = self.config.head_dim // 2
        rates = self.config.rope_theta ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
        angles = positions[:, None, :, None].float() * rates  # [B][1][T][D/2]
        cosines, sines = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in self.layers:
            x = layer(x, cosines, sines, mask, self.config.rms_eps)
        return functional.rms_norm(x, x.shape[-1:], self.gain, self.config.rms_eps)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [N][C] → float32 [N][V]; the output layer is the embedding."""
        return functional.linear(hidden, self.embedding).float()


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack((first * cosines - second * sines, first * sines + second * cosines), -1).flatten(-2)


@dataclass(frozen=True)
class Prompt:
    """A prompt around a picture: token ids before its rows and after them."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class Prompts:
    """Renders questions as the server does, with the picture as a block of the user's turn."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.codec = Codec.from_spec(spec_from_gguf(checkpoint.metadata))
        self.end = self.codec.tokenizer.control_id("<|im_end|>")
        self._cached = functools.lru_cache(65536)(self._render)

    def render(self, question: str, system: str = "", *, picture_last: bool = False) -> Prompt:
        """Ids of the system prompt, the turn and the opening of the reply, around the picture."""
        return self._cached(question, system, picture_last)

    def answer(self, text: str) -> list[int]:
        """Ids of a reply, its end of turn included."""
        return [*self.codec.tokenizer.encode(text), self.end]

    def text(self, token_ids: list[int]) -> str:
        """What a reply's ids say, up to its end."""
        if self.end in token_ids:
            token_ids = token_ids[: token_ids.index(self.end)]
        return self.codec.tokenizer.decode(token_ids)

    def _render(self, question: str, system: str, picture_last: bool) -> Prompt:
        blocks = (TextPart(question), TextPart(PLACE_HOLDER)) if picture_last else (TextPart(PLACE_HOLDER), TextPart(question))
        conversation = Conversation((TextPart(system),) if system else (), (Turn("user", blocks),))
        rendered = self.codec._template.render(conversation)
        alphabet = self.codec.tokenizer.typed_alphabet
        before, holder, after = rendered.partition(alphabet.typed(PLACE_HOLDER))
        if not holder:
            raise ValueError("the template does not show the picture's place")
        encode = self.codec.tokenizer.encode_rendered
        return Prompt(tuple(encode(before)), tuple(encode(after)))
