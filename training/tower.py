"""The eyes: a SigLIP-style vision tower and a connector, laid out and named as in SmolVLM.

In `transformers` that is `Idefics3ForConditionalGeneration`. One thing differs: the connector's rows are not vectors
for the language model but scores of the words of notes. The likeliest word of each row is looked up in a codebook, as a
token is in a table of embeddings (docs/decisions/022-eyes-that-say-words.md has why).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.attention import attention
from training.notes import VOCABULARY


@dataclass(frozen=True)
class TowerConfig:
    """Sizes. A tile gives (tile_edge / patch / scale)² rows, a score each for `words`."""

    hidden: int = 256
    layers: int = 8
    heads: int = 4
    feed_forward: int = 1024
    tile_edge: int = 256
    patch: int = 16
    scale: int = 2
    words: int = len(VOCABULARY)
    eps: float = 1e-6

    @property
    def grid(self) -> int:
        """Patches along an edge."""
        return self.tile_edge // self.patch

    @property
    def rows(self) -> int:
        """That a tile becomes."""
        return (self.grid // self.scale) ** 2


class Attention(nn.Module):
    """Every patch looks at every patch."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(config.hidden, config.hidden) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [B][P][C] → the same shape."""
        # One product instead of three: on a CPU the calls cost as much as the small products.
        projections = (self.q_proj, self.k_proj, self.v_proj)
        weight = torch.cat([p.weight for p in projections])
        bias = torch.cat([p.bias for p in projections])
        qkv = functional.linear(x, weight, bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind()
        mixed = attention(q, k, v)
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    """Two linear maps with a GELU (tanh form) between them."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden, config.feed_forward)
        self.fc2 = nn.Linear(config.feed_forward, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """x [..][C] → the same shape."""
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))


class Layer(nn.Module):
    """Attention and feed-forward, each behind a layer norm."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden, config.eps)
        self.self_attn = Attention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden, config.eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor) -> Tensor:
        """x [B][P][C] → the same shape."""
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Embeddings(nn.Module):
    """Patches to vectors, each with its place's."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, config.hidden, config.patch, config.patch)
        self.position_embedding = nn.Embedding(config.grid**2, config.hidden)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels [B][3][H][W], normalised → [B][P][C]."""
        patch = self.patch_embedding
        size = patch.kernel_size[0]
        blocks = pixels.unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 1, 3, 5)
        flat = blocks.flatten(3).flatten(1, 2)  # [B][P][3·p·p]; the convolution's stride is its size
        return functional.linear(flat, patch.weight.flatten(1), patch.bias) + self.position_embedding.weight


class Encoder(nn.Module):
    """The layers, under the name that the checkpoint gives them."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))


class VisionModel(nn.Module):
    """SigLIP's encoder without its pooling head."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden, config.eps)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """pixels [B][3][H][W], normalised → after the first third of the layers and after all, each [B][P][C]."""
        early = x = self.embeddings(pixels)
        for index, layer in enumerate(self.encoder.layers, 1):
            x = layer(x)
            if index == max(1, len(self.encoder.layers) // 3):
                early = x
        return early, self.post_layernorm(x)


class Projection(nn.Module):
    """One linear map without bias, under the name that the checkpoint gives it."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.hidden * config.scale**2, config.words, bias=False)


class Connector(nn.Module):
    """Pixel shuffle, then one linear map: scale² patches become one row's scores."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.scale = config.scale
        self.modality_projection = Projection(config)
        self.habits = nn.Parameter(torch.zeros(config.rows, config.words))  # what a row says anyway

    def shuffled(self, x: Tensor) -> Tensor:
        """x [B][P][C] → blocks [B][P/scale²][C·scale²]."""
        side = int(x.shape[1] ** 0.5)
        x = x.unflatten(1, (side // self.scale, self.scale, side // self.scale, self.scale))
        return x.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """x [B][P][C] → scores [B][P/scale²][words]."""
        return self.modality_projection.proj(self.shuffled(x)).float() + self.habits


class Tower(nn.Module):
    """Tiles to what the rows of the language model's prompt are to say."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionModel(config)
        self.connector = Connector(config)
        _initialise(self)

    def forward(self, tiles: Tensor) -> Tensor:
        """tiles [B][H][W][3], uint8 → scores [B][R][words]; the highest is the word that a row says."""
        return self.connector(self.features(tiles)[1])

    def features(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """tiles [B][H][W][3], uint8 → early features and the connector's input, each [B][P][C]."""
        pixels = tiles.permute(0, 3, 1, 2).float() / 127.5 - 1
        return self.vision_model(pixels)


def _initialise(tower: Tower) -> None:
    for module in tower.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    config = tower.config
    # Places start as waves, so that "next to" and "in the same line" need not be learned.
    with torch.no_grad():
        tower.vision_model.embeddings.position_embedding.weight.copy_(_waves(config.grid, config.hidden))
    nn.init.trunc_normal_(tower.vision_model.embeddings.patch_embedding.weight, std=0.04)


def _waves(side: int, width: int) -> Tensor:
    """Sines and cosines of both coordinates, [side²][width]."""
    rates = torch.pi / side * 2 ** torch.linspace(0, 3.5, width // 4)
    angles = torch.arange(side)[:, None] * rates
    one = torch.cat([angles.sin(), angles.cos()], 1)  # [side][width/2]
    grid = torch.cat([one[:, None].expand(-1, side, -1), one[None].expand(side, -1, -1)], -1)
    return 0.3 * grid.flatten(0, 1)
