"""A codebook: where a tower's connector gives each row scores of words, the vectors that stand for the likeliest.

Eyes made for one frozen language model (`training/`) say what they see in sentences of known words, a word a row. A
word becomes a vector by look-up, as a token does in a table of embeddings, so that the model reads exactly the vectors
that were made for it (docs/decisions/022-eyes-that-say-words.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hokku.kernels.program import F32, I32
from hokku.models.vision.config import VisionConfig
from hokku.models.vision.weights import Tensors, read_tensor


@dataclass(frozen=True, slots=True)
class Codebook:
    """Tables of V words for R rows of C columns; a row's line is the rows around it that lend it something."""

    line: int  # rows of a line, which divides R
    habits: F32  # [R][V]: added to a row's scores
    table: F32  # [V][C]: a word's vector
    offsets: F32  # [R][C]: added to a row, whatever it says
    lent: F32  # [V][C]: what a word adds to the rows of its line, over the rows of a line
    lent_to_all: F32  # [V][C]: what it adds to all rows, over all rows

    def words(self, scores: F32) -> I32:
        """Of scores [R][V] the likeliest word of each row [R], the first among equals."""
        likeliest: I32 = (scores + self.habits).argmax(1).astype(np.int32)
        return likeliest

    def rows(self, words: I32) -> F32:
        """Words [R] as rows [R][C]."""
        lines: F32 = self.lent[words].reshape(-1, self.line, self.lent.shape[1]).sum(1)
        page: F32 = self.lent_to_all[words].sum(0)
        own: F32 = self.table[words] + self.offsets
        return own + np.repeat(lines, self.line, 0) + page


def read_codebook(tensors: Tensors, config: VisionConfig) -> Codebook | None:
    """A tower's codebook; None where the connector's rows are read as they are. Raises `BadModelFile`."""
    if not config.words:
        return None
    by_word, by_row = (config.words, config.out), (config.rows, config.out)
    return Codebook(
        line=config.line,
        habits=read_tensor(tensors, "model.connector.habits", (config.rows, config.words)),
        table=read_tensor(tensors, "model.codebook.table", by_word),
        offsets=read_tensor(tensors, "model.codebook.offsets", by_row),
        lent=read_tensor(tensors, "model.codebook.lent", by_word) / np.float32(config.line),
        lent_to_all=read_tensor(tensors, "model.codebook.lent_to_all", by_word) / np.float32(config.rows),
    )
