"""Attention, by whichever way is fastest where it runs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """q, k and v [B][H][T][D] → [B][H][T][D]. `mask` [B][1][T][T] is 0 where a row may look, and -inf elsewhere.

    In bfloat16 on a CPU without AMX PyTorch's fused kernel takes more than twice as long as the plain products.
    """
    if q.is_cuda:
        return functional.scaled_dot_product_attention(q, k, v, mask)
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    if mask is not None:
        scores = scores + mask
    return torch.matmul(scores.softmax(-1).to(v.dtype), v)
