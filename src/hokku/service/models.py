"""Which models this process serves: their manifests, and the codec and engine behind each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hokku.protocol.engine import CachePoint, Engine, PromptTile, TokenConstraint
from hokku.protocol.errors import ModelLoading, NotFound
from hokku.protocol.messages import Conversation
from hokku.protocol.pictures import Tiling
from hokku.registry.manifest import Manifest
from hokku.service.reply_blocks import BlockPiece


class EncodedPrompt(Protocol):
    """A conversation as the model reads it."""

    @property
    def token_ids(self) -> Sequence[int]:
        """The whole prompt, special tokens included."""

    @property
    def prefill(self) -> bool:
        """Whether it ends with the first words of the reply."""

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Tokens that end the reply."""

    @property
    def tiles(self) -> tuple[PromptTile, ...]:
        """Where pieces of pictures stand in it."""

    @property
    def blocks(self) -> Sequence[CachePoint]:
        """Where each block of the conversation ends, and how long the prompt is to be kept up to there; empty where
        nothing is to be kept."""


class ReplyDecoder(Protocol):
    """Turns one reply's tokens back into prose and calls, a piece at a time."""

    @property
    def stop_sequence(self) -> str | None:
        """The stop sequence that ended the reply, once one has been met."""

    def feed(self, token_ids: Sequence[int]) -> Sequence[BlockPiece]:
        """What is now certain: whole characters, no beginning of a stop sequence or of a call."""

    def finish(self) -> Sequence[BlockPiece]:
        """What was still held back when the generation ended."""


class Codec(Protocol):
    """Conversation to tokens and back. Called from several threads; a decoder belongs to one reply."""

    @property
    def tiling(self) -> Tiling | None:
        """What the model wants of pictures; None where it reads text only."""

    def encode(self, conversation: Conversation) -> EncodedPrompt:
        """The prompt for a reply to `conversation`. Raises `InvalidRequest` where the model cannot be shown it."""

    def count(self, conversation: Conversation) -> int:
        """How many tokens `encode` gives."""

    def constraint(self, conversation: Conversation, *, prefill: bool) -> TokenConstraint | None:
        """A fresh constraint for one reply; None where it may be anything. Raises `InvalidRequest` for a schema that
        cannot be compiled. May take a second."""

    def decoder(
        self, stop_sequences: Sequence[str], *, prefill: bool, tool_names: Collection[str], is_forced: bool
    ) -> ReplyDecoder:
        """A fresh decoder for one reply, which may call these tools, or has to; `prefill` as the prompt has it."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model with everything needed to answer: several can be served side by side."""

    manifest: Manifest
    codec: Codec
    engine: Engine

    @property
    def id(self) -> str:
        """The pinned snapshot's id, whatever alias the client used."""
        return self.manifest.id

    @property
    def context_window_tokens(self) -> int:
        """The smaller of the manifest's window and the loaded weights'."""
        return min(self.manifest.context_window_tokens, self.engine.context_window_tokens)


class Catalogue:
    """The models on offer in this process, by id and alias.

    All manifests are known from the start; a model is opened with `put` once its weights are loaded, from any
    thread, while the server already answers.

    Args:
        manifests: what is on offer.
        aliases: further names, each with the id of one of `manifests`.
    """

    def __init__(self, manifests: Iterable[Manifest], aliases: Mapping[str, str]) -> None:
        newest_first = sorted(manifests, key=lambda manifest: manifest.created_at, reverse=True)
        self._manifests = {manifest.id: manifest for manifest in newest_first}
        self._aliases = dict(aliases)
        self._served: dict[str, ServedModel] = {}

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """Everything on offer, newest first."""
        return tuple(self._manifests.values())

    @property
    def is_ready(self) -> bool:
        """Whether every model on offer can serve."""
        return len(self._served) == len(self._manifests)

    @property
    def served(self) -> tuple[ServedModel, ...]:
        """The models that are loaded."""
        return tuple(self._served.values())

    def put(self, model: ServedModel) -> None:
        """Open a loaded model to callers; its manifest now says what was found in the weights."""
        self._manifests[model.id] = model.manifest
        self._served[model.id] = model

    def knows(self, name: str) -> bool:
        """Whether it is an id or alias."""
        return self._aliases.get(name, name) in self._manifests

    def manifest(self, name: str) -> Manifest:
        """What is behind an id or alias, loaded or not. Raises `NotFound`."""
        manifest = self._manifests.get(self._aliases.get(name, name))
        if manifest is None:
            raise NotFound(name, place="model")
        return manifest

    def context_window_tokens(self, manifest: Manifest) -> int:
        """The true window once the model is loaded, the manifest's until then."""
        served = self._served.get(manifest.id)
        return served.context_window_tokens if served else manifest.context_window_tokens

    def resolve(self, name: str) -> ServedModel:
        """The model behind an id or alias. Raises `NotFound`, and `ModelLoading` while it is still loading."""
        served = self._served.get(self.manifest(name).id)
        if served is None:
            raise ModelLoading("The model is still loading")
        return served
