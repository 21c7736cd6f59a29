"""The models there are: Hokku's manifests and the operator's, and the aliases that move between them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hokku.protocol.errors import BadSetting, ModelNotFound
from hokku.registry.cache import disk_full_named
from hokku.registry.fallback import Fallback, LocalTarget, read_fallback
from hokku.registry.manifest import Manifest, ad_hoc_manifest, read_manifest
from hokku.registry.toml_table import TomlTable

DEFAULT_MODEL = "claude-3-5-haiku-latest"
_PACKAGED = Path(__file__).with_name("manifests")


class Registry:
    """Manifests and aliases as they stand on disk now. An operator's manifest may not take a known id."""

    def __init__(self, manifests: Mapping[str, Manifest], aliases: Mapping[str, str], data_dir: Path) -> None:
        self._manifests = dict(manifests)
        self._aliases = dict(aliases)
        self._data_dir = data_dir

    @classmethod
    def load(cls, data_dir: Path) -> Registry:
        """Read every manifest and the operator's aliases. Raises `BadSetting` naming file and key."""
        manifests: dict[str, Manifest] = {}
        for file in [*sorted(_PACKAGED.glob("*.toml")), *sorted((data_dir / "models").glob("*.toml"))]:
            manifest = read_manifest(file)
            if manifest.id in manifests:
                raise BadSetting(f"{manifest.id} is already the id of another manifest", place=f"{file}: id")
            manifests[manifest.id] = manifest
        aliases = {alias: manifest.id for manifest in manifests.values() for alias in manifest.aliases}
        aliases |= _moved_aliases(data_dir, manifests)
        return cls(_with_fallbacks(manifests, data_dir), aliases, data_dir)

    def manifests(self) -> list[Manifest]:
        """Every manifest, newest first."""
        return sorted(
            self._manifests.values(), key=lambda manifest: (manifest.created_at, manifest.id), reverse=True
        )

    def aliases_of(self, model_id: str) -> tuple[str, ...]:
        """The names that stand for this id now, in alphabetical order."""
        return tuple(sorted(alias for alias, target in self._aliases.items() if target == model_id))

    def resolve(self, name: str) -> Manifest:
        """The manifest of an id or alias. Raises `ModelNotFound`."""
        manifest = self._manifests.get(self._aliases.get(name, name))
        if manifest is None:
            raise ModelNotFound(
                "no model of that name", place=name, way_out="hokku models list shows what there is"
            )
        return manifest

    def with_fallbacks(self, manifest: Manifest) -> tuple[Manifest, ...]:
        """A manifest, the one of this machine that it falls back to, that one's, and so on."""
        chain = [manifest]
        while (target := _local_target(chain[-1])) is not None:
            chain.append(self._manifests[target])
        return tuple(chain)

    def resolve_or_open(self, name: str) -> Manifest:
        """`resolve`, or a manifest made on the spot for a path of a GGUF file or safetensors folder."""
        path = Path(name).expanduser()
        if name not in self._aliases and name not in self._manifests and path.exists():
            return ad_hoc_manifest(path)
        return self.resolve(name)

    def move_alias(self, alias: str, name: str) -> Manifest:
        """Let `alias` stand for the model called `name` from now on, for every later start.

        Raises `ModelNotFound` for an unknown target, `BadSetting` where the alias is itself a snapshot's id:
        what a dated id stands for never moves.
        """
        if alias in self._manifests:
            raise BadSetting(
                "is a snapshot's id, and ids never move", place=alias, way_out="choose another alias"
            )
        target = self.resolve(name)
        moved = _moved_aliases(self._data_dir, self._manifests) | {alias: target.id}
        file = _aliases_file(self._data_dir)
        with disk_full_named(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(
                f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in sorted(moved.items())
            )
            incoming = file.with_suffix(".incoming")
            incoming.write_text(text, "utf-8")
            incoming.replace(file)
        self._aliases[alias] = target.id
        return target


def _with_fallbacks(manifests: Mapping[str, Manifest], data_dir: Path) -> dict[str, Manifest]:
    """The manifests with the operator's fallbacks. Raises `BadSetting` for one that leads nowhere, or back."""
    named = _named_fallbacks(data_dir, manifests)
    every = {
        manifest.id: replace(manifest, fallback=named.get(manifest.id, manifest.fallback))
        for manifest in manifests.values()
    }
    for manifest in every.values():
        _refuse_unknown(manifest, every)
    for manifest in every.values():
        _refuse_circle(manifest, every)
    return every


def _named_fallbacks(data_dir: Path, manifests: Mapping[str, Manifest]) -> dict[str, Fallback]:
    """What the data directory's `fallbacks.toml` says, by model id. It wins over the manifests."""
    file = data_dir / "fallbacks.toml"
    if not file.exists():
        return {}
    top = TomlTable.read(file)
    fallbacks = {}
    for model_id in top.keys():  # noqa: SIM118 - not a mapping
        if model_id not in manifests:
            raise top.complain(model_id, "is no model's id", way_out="hokku models list shows what there is")
        fallbacks[model_id] = read_fallback(top.table(model_id), file.parent)
    return fallbacks


def _refuse_unknown(manifest: Manifest, manifests: Mapping[str, Manifest]) -> None:
    target = _local_target(manifest)
    if target is not None and target not in manifests:
        raise BadSetting(
            f"{target} is no model's id",
            place=_place_of_target(manifest),
            way_out="hokku models list shows what there is; for a model of another service, give its url too",
        )


def _refuse_circle(manifest: Manifest, manifests: Mapping[str, Manifest]) -> None:
    path = [manifest.id]
    while (target := _local_target(manifests[path[-1]])) is not None:
        path.append(target)
        if target in path[:-1]:
            raise BadSetting(
                f"leads in a circle: {' -> '.join(path)}",
                place=_place_of_target(manifest),
                way_out="let one of them fall back to none, or to another",
            )


def _place_of_target(manifest: Manifest) -> str:
    return f"{manifest.fallback.place}.model" if manifest.fallback else manifest.id


def _local_target(manifest: Manifest) -> str | None:
    target = manifest.fallback.target if manifest.fallback else None
    return target.model if isinstance(target, LocalTarget) else None


def _aliases_file(data_dir: Path) -> Path:
    return data_dir / "aliases.toml"


def _moved_aliases(data_dir: Path, manifests: Mapping[str, Manifest]) -> dict[str, str]:
    file = _aliases_file(data_dir)
    if not file.exists():
        return {}
    table = TomlTable.read(file)
    moved = {alias: table.require(alias, str) for alias in table.keys()}  # noqa: SIM118 - not a mapping
    for alias, target in moved.items():
        if target not in manifests:
            raise table.complain(alias, f"points at {target}, which is no model's id")
    return moved
