"""Weights in a Hugging Face repository; `huggingface_hub` fetches them (HF_ENDPOINT and HF_TOKEN count)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hokku.protocol.errors import ModelNotFound, SourceUnreachable
from hokku.registry.manifest import HubWeights
from hokku.registry.sources import Progress

_WAY_OUT = "check the network and HF_ENDPOINT, or bring the file yourself: hokku models pull --from FILE"


class HuggingFaceSource:
    """Takes the named files of one repository at one revision."""

    def __init__(self, weights: HubWeights) -> None:
        self._weights = weights

    def fetch(self, into: Path, progress: Progress) -> dict[str, Path]:
        """See `Source.fetch`."""
        # Imported here: the hub's client takes a third of a second to load and serving never needs it.
        import httpx
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RemoteEntryNotFoundError,
            RepositoryNotFoundError,
        )

        place = f"{self._weights.repository}@{self._weights.revision}"
        try:
            return {
                name: Path(
                    hf_hub_download(
                        self._weights.repository,
                        name,
                        revision=self._weights.revision,
                        local_dir=into,
                        endpoint=os.environ.get("HF_ENDPOINT"),
                        tqdm_class=_reporting_bar(progress),
                    )
                )
                for name in self._weights.sha256s
            }
        except (RepositoryNotFoundError, RemoteEntryNotFoundError) as cause:
            raise ModelNotFound(f"the hub has no such file: {_first_line(cause)}", place=place) from cause
        except (HfHubHTTPError, LocalEntryNotFoundError, httpx.HTTPError) as cause:
            raise SourceUnreachable(_first_line(cause), place=place, way_out=_WAY_OUT) from cause


def _first_line(cause: Exception) -> str:
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def _reporting_bar(progress: Progress) -> type[Any]:
    """A tqdm class that draws nothing and tells `progress` instead."""
    from tqdm import tqdm

    class ReportingBar(tqdm):  # type: ignore[misc]  # tqdm has no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})
            self._done = int(kwargs.get("initial", 0) or 0)
            self._expected = kwargs.get("total")

        def update(self, n: float | None = 1) -> None:
            self._done += int(n or 0)
            progress(self._done, self._expected)

    return ReportingBar
