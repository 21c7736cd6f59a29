"""A packed model, ready to be recorded on a program; packing happens here when there is nothing packed yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hokku.kernels.program import F32, KvFormat, Program, WeightFormat
from hokku.kernels.weights import PackedWeight
from hokku.models.checkpoint import Checkpoint, open_checkpoint
from hokku.models.config import ModelConfig
from hokku.models.layers import Forward, assemble
from hokku.models.packing.calibration import calibration_text
from hokku.models.packing.pack import ARRAY_FIELDS, FORMAT_VERSION, Progress, SourceStamp, pack_checkpoint
from hokku.models.packing.plan import PackedFormat, PlannedMatrix, WeightsFormat, head_name
from hokku.models.packing.store import PackedArrays
from hokku.models.registry import architecture_of
from hokku.models.rope import rope_tables
from hokku.protocol.errors import BadModelFile, DigestMismatch, ModelNotFound

_EXTRA = "extra."


@dataclass(frozen=True, slots=True)
class TextSide:
    """What the floor that knows text brings to the packing of a checkpoint."""

    # Token ids of a text in which control tokens such as <|im_start|> stand as themselves.
    encode: Callable[[str], Sequence[int]]
    # Texts that a later start needs, kept in the packed file: tokenizer, chat template.
    extra: Mapping[str, str]


class PackedModel:
    """A mapped packed file. Arrays are used where they lie; the object must outlive every program recorded
    from it.
    """

    def __init__(self, path: Path) -> None:
        """Map a packed file and check its header. Raises `BadModelFile`."""
        self.path = path
        self._arrays = PackedArrays(path)
        metadata = self._arrays.metadata
        if metadata.get("format_version") != str(FORMAT_VERSION):
            raise BadModelFile("packed by another version of Hokku", place=str(path))
        try:
            self.config = ModelConfig.from_dict(json.loads(metadata["config"]))
            self.stamp = SourceStamp(**json.loads(metadata["source"]))
            self.weights_format: PackedFormat = metadata["weights_format"]  # type: ignore[assignment]
            matrices = json.loads(metadata["matrices"])
            self._planned = {name: PlannedMatrix(**values) for name, values in matrices.items()}
            self._head_name = head_name(self.config, self.weights_format)
            self._weights = assemble(self.config, self.matrix, self._vector, self._head_name)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadModelFile("not a packed model, or not all of one", place=str(path)) from error

    @property
    def nbytes(self) -> int:
        """Bytes of the mapped file: what the weights take in memory once they have been touched."""
        return self.path.stat().st_size

    @property
    def kv_format(self) -> KvFormat:
        """What keys and values are best kept in: with integer weights all of a token's products are integers, the
        same on every path of the kernels."""
        return KvFormat.BF16 if self.weights_format == "bf16" else KvFormat.INT8

    @property
    def extra(self) -> dict[str, str]:
        """The texts that `TextSide.extra` brought."""
        names = [name for name in self._arrays.names() if name.startswith(_EXTRA)]
        return {name.removeprefix(_EXTRA): self._arrays.array(name).tobytes().decode() for name in names}

    def record(self, program: Program, *, max_positions: int | None = None) -> Forward:
        """Record the forward pass on a program made for this model's shape.

        Args:
            max_positions: positions that requests may reach, the model's window unless given; the size of the
                rotary tables.
        """
        positions = self.config.context_window_tokens if max_positions is None else max_positions
        rope = rope_tables(self.config, positions, self._weights.rope_divisors)
        architecture = architecture_of(self.config.architecture, str(self.path))
        return architecture.record(program, self.config, self._weights, rope)

    def matrix(self, name: str) -> PackedWeight:
        """A packed matrix by its name in `plan.plan`. Raises `BadModelFile` when there is none."""
        if name not in self._planned:
            raise BadModelFile(f"matrix {name} is missing", place=str(self.path))
        planned = self._planned[name]
        arrays = {
            field: self._arrays.array(f"{name}.{field}")
            for field in ARRAY_FIELDS
            if f"{name}.{field}" in self._arrays
        }
        weight = PackedWeight(
            WeightFormat(planned.format), planned.rows, planned.cols, **arrays, segments=planned.segments
        )
        _ = weight.native  # checks every array's size now, while a bad file can still be made anew
        return weight

    def matrices_of_a_token(self) -> dict[str, PackedWeight]:
        """The matrices that every generated token is multiplied by: all but a table that is only looked up in."""
        names = [name for name in self._planned if name != "embedding" or name == self._head_name]
        return {name: self.matrix(name) for name in names}

    def _vector(self, name: str) -> F32 | None:
        return self._arrays.array(name) if name in self._arrays else None


def load_model(
    path: Path,
    *,
    read_text_side: Callable[[Checkpoint], TextSide],
    digest: str | None = None,
    weights_format: WeightsFormat = "auto",
    cache_dir: Path | None = None,
    progress: Progress = lambda _done, _total: None,
) -> PackedModel:
    """The model at `path`, packed: mapped at once when its packed form is there and fresh, else packed first.

    Args:
        path: a GGUF file or a safetensors folder.
        read_text_side: called when packing, with the open checkpoint.
        digest: the SHA-256 (hex) a GGUF file must have; checked when packing, and compared with what was packed.
        cache_dir: where the packed form is kept; next to `path` unless given.
        progress: called while packing.

    Raises:
        ModelNotFound, BadModelFile, DigestMismatch, DiskFull, BadSetting.
    """
    stamp = _stamp(path, digest)
    packed_path = (cache_dir or path.parent) / packed_name(path, weights_format)
    model = _fresh(packed_path, stamp)
    if model is not None:
        return model
    _check_digest(path, digest)
    checkpoint = open_checkpoint(path)
    text_side = read_text_side(checkpoint)
    pack_checkpoint(
        checkpoint,
        packed_path,
        weights_format=weights_format,
        calibration_tokens=text_side.encode(calibration_text()),
        stamp=stamp,
        extra=text_side.extra,
        progress=progress,
    )
    return PackedModel(packed_path)


def packed_name(path: Path, weights_format: WeightsFormat) -> str:
    """The packed form's file name; models of one name from different folders do not share it."""
    folder = hashlib.sha256(str(path.resolve().parent).encode()).hexdigest()[:8]
    return f"{path.name}.{folder}.{weights_format}.packed"


def _fresh(packed_path: Path, stamp: SourceStamp) -> PackedModel | None:
    """The packed model if it is whole and made from this source, else None: it is made anew."""
    if not packed_path.exists():
        return None
    try:
        model = PackedModel(packed_path)
    except BadModelFile:
        return None
    return model if model.stamp == stamp else None


def _stamp(path: Path, digest: str | None) -> SourceStamp:
    """Sizes and times of the file, or of all files of a folder."""
    files = sorted(path.glob("*.safetensors")) + sorted(path.glob("*.json")) if path.is_dir() else [path]
    try:
        stats = [file.stat() for file in files]
    except OSError as error:
        raise ModelNotFound("no such file or folder", place=str(path)) from error
    if not stats:
        raise ModelNotFound("the folder holds no checkpoint", place=str(path))
    return SourceStamp(
        path.name, sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats), digest
    )


def _check_digest(path: Path, digest: str | None) -> None:
    if digest is None or path.is_dir():
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest.lower():
        raise DigestMismatch(
            f"SHA-256 is {found}, not {digest}", place=str(path), way_out="fetch the file again"
        )
