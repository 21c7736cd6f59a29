"""Batches of every wire: who has taken one in reads its requests and words its results."""

from __future__ import annotations

import json

from hokku.api.anthropic.batch_wire import AnthropicBatchWire
from hokku.api.bedrock.job_wire import BedrockBatchWire
from hokku.api.config import Compatibility
from hokku.protocol.events import Reply
from hokku.protocol.messages import MessagesRequest
from hokku.service.batch_answers import BatchWire
from hokku.service.models import Catalogue


class BatchWires:
    """All of them together, as a `BatchWire`."""

    def __init__(self, catalogue: Catalogue, compatibility: Compatibility) -> None:
        self._anthropic = AnthropicBatchWire(catalogue, compatibility)
        self._bedrock = BedrockBatchWire(catalogue, compatibility)

    def read(self, body: bytes, dialect: str) -> MessagesRequest:
        """See `BatchWire`."""
        return self._of(dialect).read(body, dialect)

    def succeeded(self, reply: Reply, body: bytes, dialect: str) -> str:
        """See `BatchWire`."""
        return self._of(dialect).succeeded(reply, body, dialect)

    def errored(self, error: Exception, request_id: str | None, dialect: str) -> str:
        """See `BatchWire`."""
        return self._of(dialect).errored(error, request_id, dialect)

    def _of(self, dialect: str) -> BatchWire:
        return self._bedrock if "kind" in json.loads(dialect) else self._anthropic
