"""A codebook: where a tower's connector gives each row scores of words, the vectors that stand for the likeliest.

Eyes made for one frozen language model (`training/`) say what they see in sentences of known words, a word a row. A
word becomes a vector by look-up, as a token does in a table of embeddings, so that the model reads exactly the vectors
that were made for it (docs/decisions/022-eyes-that-say-words.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hokku.kernels.program import F32, I32
from hokku.models.config import unsupported
from hokku.models.vision.config import CodebookConfig, DictionaryConfig, VisionConfig
from hokku.models.vision.weights import Tensors, read_tensor


@dataclass(frozen=True, slots=True)
class Dictionary:
    """Words by their letters, in D entries: what was read letter by letter is taken for the likeliest of them."""

    config: DictionaryConfig
    spellings: I32  # [D][letters]: the word that each letter is to a row, and "nothing" behind the last
    vectors: I32  # [D]: of which row of the codebook's table the word's vector is

    def look_up(self, said: I32, scores: F32) -> None:
        """Put the likeliest word and its letters into what rows say [R], by their scores [R][V]."""
        at = self.config
        if said[at.where] != at.says:
            return
        spelled = slice(at.first_letter, at.first_letter + at.letters)
        entry = int(scores[spelled][np.arange(at.letters), self.spellings].sum(1).argmax())
        said[at.word], said[spelled] = self.vectors[entry], self.spellings[entry]


@dataclass(frozen=True, slots=True)
class Codebook:
    """Tables for R rows of C columns, that can say V words, and T vectors; the first V are of these words."""

    config: CodebookConfig
    habits: F32  # [R][V]: added to a row's scores
    table: F32  # [T][C]: a word's vector
    offsets: F32  # [R][C]: added to a row, whatever it says
    # The last row of these is for words that only the dictionary has.
    lent: F32  # [V+1][C]: what a word adds to the rows of its line, over the rows of a line
    lent_to_all: F32  # [V+1][C]: what it adds to all rows, over all rows
    dictionary: Dictionary | None

    def words(self, scores: F32) -> I32:
        """Of the connector's scores [R][V] what each row says [R], as rows of the table."""
        in_all = scores + self.habits
        said: I32 = in_all.argmax(1).astype(np.int32)
        if self.dictionary is not None:
            self.dictionary.look_up(said, in_all)
        return said

    def rows(self, words: I32) -> F32:
        """Words [R] as rows [R][C]."""
        lenders = np.minimum(words, self.config.words)
        lines: F32 = self.lent[lenders].reshape(-1, self.config.line, self.lent.shape[1]).sum(1)
        page: F32 = self.lent_to_all[lenders].sum(0)
        own: F32 = self.table[words] + self.offsets
        return own + np.repeat(lines, self.config.line, 0) + page


def read_codebook(tensors: Tensors, config: VisionConfig) -> Codebook | None:
    """A tower's codebook; None where the connector's rows are read as they are. Raises `BadModelFile`."""
    book = config.codebook
    if book is None:
        return None
    lent = (book.words + 1, config.out)
    return Codebook(
        config=book,
        habits=read_tensor(tensors, "model.connector.habits", (config.rows, book.words)),
        table=read_tensor(tensors, "model.codebook.table", (book.vectors, config.out)),
        offsets=read_tensor(tensors, "model.codebook.offsets", (config.rows, config.out)),
        lent=read_tensor(tensors, "model.codebook.lent", lent) / np.float32(book.line),
        lent_to_all=read_tensor(tensors, "model.codebook.lent_to_all", lent) / np.float32(config.rows),
        dictionary=_read_dictionary(tensors, book),
    )


def _read_dictionary(tensors: Tensors, book: CodebookConfig) -> Dictionary | None:
    config = book.dictionary
    if config is None:
        return None
    spellings = (config.entries, config.letters)
    return Dictionary(
        config,
        _read_numbers(tensors, "model.codebook.dictionary.spellings", spellings, book.words),
        _read_numbers(tensors, "model.codebook.dictionary.vectors", (config.entries,), book.vectors),
    )


def _read_numbers(tensors: Tensors, name: str, shape: tuple[int, ...], below: int) -> I32:
    """Whole numbers from 0, which lie in a checkpoint as floats."""
    values = read_tensor(tensors, name, shape)
    numbers = values.astype(np.int32)
    if (numbers != values).any() or numbers.min() < 0 or numbers.max() >= below:
        raise unsupported(
            f"tensor {name} with other values than whole numbers below {below}", str(tensors.path)
        )
    return numbers
