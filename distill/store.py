"""What a teacher predicts, on disk by the content of the sample: shuffling, packing and seeds change nothing.

A store is a folder named by the digest of all that the numbers depend on: weights, dtype, attention, codec.
Each of its shards carries its samples' keys and its own digest, and is written whole or not at all.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from distill.codecs import Codec, Kept, as_integers, read_codec
from distill.examples import Example
from fastpath.errors import RunError
from fastpath.runs import read_json, step
from fastpath.sources import cache_folder

SETTINGS = "store.json"
VERSION = 1
"""Of what lies in a shard: stores of another version are not read."""
AGAIN = "delete it, and the same command captures its samples again"


class Store:
    """The shards of one teacher and codec. `store[key]` reads one sample from disk."""

    def __init__(self, folder: Path) -> None:
        """Open a store that there is. RunError names a shard that cannot be read or is another store's."""
        self.folder = folder
        self.settings = read_json(folder / SETTINGS)
        self._places: dict[str, tuple[Any, int, int]] = {}
        self._shards: dict[Path, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            self._open(path)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Store":
        """The store of these settings, perhaps empty, in the cache folder."""
        settings = {"version": VERSION, **settings}
        folder = cache_folder() / "teachers" / _digest_of(settings)[:16]
        found = step(folder, SETTINGS, lambda: settings)
        if changed := [key for key in settings if found.get(key) != settings[key]]:
            key = changed[0]
            raise RunError(
                f"{folder / SETTINGS}: {key} is {found.get(key)!r}, not {settings[key]!r}: it was changed or "
                "is another store's; delete the folder"
            )
        return cls(folder)

    @property
    def codec(self) -> Codec:
        """How its tensors are read."""
        return read_codec(self.settings["codec"])

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    @property
    def num_bytes(self) -> int:
        """Of all shards."""
        return sum(path.stat().st_size for path in self._shards)

    def __getitem__(self, key: str) -> dict[str, Tensor]:
        """What is kept of the learnt tokens of a sample, in their order."""
        shard, start, stop = self._places[key]
        return {name: shard.get_slice(name)[start:stop] for name in shard.keys()}  # noqa: SIM118 (no mapping)

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """All learnt tokens of these examples, as integers. RunError if one was never captured."""
        for example in examples:
            if example.key not in self._places:
                raise RunError(f"{self.folder}: lacks sample {example.key[:16]}; distill.teacher=live works")
        parts = [self[example.key] for example in examples]
        return as_integers({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def add(self, samples: Mapping[str, Kept]) -> None:
        """Write these samples as one more shard, by their keys."""
        if not samples:
            return
        parts = list(samples.values())
        tensors = {name: torch.cat([part[name] for part in parts]).contiguous() for name in parts[0]}
        sizes = {key: len(next(iter(part.values()))) for key, part in samples.items()}
        metadata = {"store": _digest_of(self.settings), "samples": json.dumps(sizes)}
        number = 1 + max((int(path.stem) for path in self._shards), default=-1)
        path = self.folder / f"{number:05}.safetensors"
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            save_file(tensors, unfinished, metadata={**metadata, "sha256": _digest(tensors, metadata)})
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        self._open(path)

    def check(self) -> None:
        """Raise RunError naming a shard whose content is not what was written. Reads all of the store."""
        for path, shard in self._shards.items():
            metadata = dict(shard.metadata())
            written = metadata.pop("sha256")
            tensors = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118 (no mapping)
            if _digest(tensors, metadata) != written:
                raise RunError(f"{path}: its content was changed after it was written; {AGAIN}")

    def _open(self, path: Path) -> None:
        try:
            shard = safe_open(path, framework="pt")  # mapped, not read
            metadata = shard.metadata()
            made_for, sizes = metadata["store"], json.loads(metadata["samples"])
            metadata["sha256"]
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path}: corrupt or incomplete ({error}); {AGAIN}") from None
        if made_for != _digest_of(self.settings):
            raise RunError(f"{path}: was captured of another teacher, or in another form; {AGAIN}")
        self._shards[path] = shard
        start = 0
        for key, size in sizes.items():
            self._places[key] = shard, start, start + size
            start += size


def _digest_of(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _digest(tensors: Kept, metadata: Mapping[str, str]) -> str:
    whole = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        whole.update(tensor.numpy().tobytes())
    return whole.hexdigest()
