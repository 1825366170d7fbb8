"""Checkpoint: a float Hugging Face model folder, checked from its headers and read one tensor at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, PretrainedConfig

from dareq_edge.errors import CheckpointError, UnsupportedArchitectureError
from dareq_edge.folders import inside
from dareq_edge.hub import convert_hint, locate
from dareq_edge.layer_limit import check_layers
from dareq_edge.manifest import verify_if_listed
from dareq_edge.records import read_json

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ALIBI = ("bloom", "mpt")  # attention biases in place of positions, which nothing after quantization supports


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a shard's header says about one tensor; ``dtype`` is safetensors' name, e.g. "F16"."""

    shape: tuple[int, ...]
    dtype: str
    file: Path

    @property
    def bits(self) -> int:
        """Bits per element: the number in the dtype's name, 8 for BOOL."""
        digits = re.search(r"\d+", self.dtype)
        return int(digits[0]) if digits else 8

    @property
    def bytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * self.bits // 8


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A model folder whose headers were read and whose weights were not.

    Attributes:
        folder: The local folder.
        source: What the user named: a folder or a hub id.
        revision: Commit on the hub, ``None`` for a local folder.
        config: The transformers configuration.
        tensors: By name in the files, in file order.
    """

    folder: Path
    source: str
    revision: str | None
    config: PretrainedConfig
    tensors: Mapping[str, TensorInfo]

    @classmethod
    def open(cls, source: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Checkpoint:
        """Find a checkpoint and read its configuration and headers.

        Args:
            source: A local folder or a hub id.
            revision: Branch, tag or commit on the hub.
            trust_remote_code: Let transformers run code that comes with the model.

        Raises:
            CheckpointError: Missing, incomplete or corrupt files; the hub cannot be reached.
            ArtifactError: A file is not what the folder's dareq.json says.
            UnsupportedArchitectureError: transformers has no causal language model of this type.
        """
        folder, commit = locate(str(source), revision)
        verify_if_listed(folder)
        config = read_config(folder, trust_remote_code=trust_remote_code)
        return cls(folder, str(source), commit, config, _read_headers(folder))

    @classmethod
    def of_config(cls, config: PretrainedConfig, source: str) -> Checkpoint:
        """A checkpoint of which nothing but the configuration is known: for ``empty_model``; it has no tensors."""
        return cls(Path(source), source, None, config, {})

    @property
    def quantization(self) -> Mapping[str, Any] | None:
        """The ``quantization_config`` of config.json, ``None`` for a float model."""
        found = getattr(self.config, "quantization_config", None)
        return found if found is None or isinstance(found, Mapping) else dict(found.to_dict())

    @property
    def context_length(self) -> int:
        """Longest sequence the model was made for, tokens.

        Raises:
            UnsupportedArchitectureError: config.json does not say.
        """
        text = self.config.get_text_config()
        for key in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
            if isinstance(getattr(text, key, None), int):
                return int(getattr(text, key))
        if text.model_type in _ALIBI:
            raise UnsupportedArchitectureError(
                f"model type {text.model_type!r} encodes positions by ALiBi, which has no context length and which "
                "GroupQueryAttention cannot express; it can be quantized, but neither scored nor exported"
            )
        raise UnsupportedArchitectureError(
            f"config.json of {self.source} gives no context length; add max_position_embeddings to it"
        )

    def empty_model(self, *, trust_remote_code: bool = False) -> torch.nn.Module:
        """The float model on the meta device: every module and shape, no memory; tied weights are tied.

        Raises:
            UnsupportedArchitectureError: The architecture is not a causal language model.
        """
        try:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(self.config, trust_remote_code=trust_remote_code)
        except Exception as error:  # whatever an architecture makes of values it was not made for
            raise UnsupportedArchitectureError(
                f"{self.source} has model type {self.config.model_type!r}, which transformers cannot open as a "
                "causal language model; give a decoder-only text model"
            ) from error
        model.tie_weights()
        return model  # type: ignore[no-any-return]

    def bind(self, model: torch.nn.Module, given: Collection[str] = ()) -> dict[str, str]:
        """Match the files' tensors to the model's, and check every shape.

        Names may lack or carry the base model's prefix ("decoder.x" for "model.decoder.x"). Of tied weights only the
        first name is wanted. Tensors that the model does not have are left out, as transformers does.

        Args:
            model: What ``empty_model`` gave.
            given: Model tensors that come from elsewhere (packed weights of a quantized folder).

        Returns:
            File name of each wanted model tensor, ``{model name: name in the files}``, in file order.

        Raises:
            CheckpointError: A tensor is missing or has another shape.
        """
        wanted = _wanted(model)
        prefix = f"{getattr(model, 'base_model_prefix', '')}."
        found: dict[str, str] = {}
        for name in self.tensors:
            for candidate in (name, prefix + name, name.removeprefix(prefix)):
                if candidate in wanted.aliases:
                    target = wanted.aliases[candidate]
                    if candidate == target or target not in found:
                        found[target] = name
                    break
        for target, shape in wanted.shapes.items():
            if target in found:
                self._check(found[target], shape)
            elif target not in given and not wanted.optional(target):
                raise CheckpointError(
                    f"tensor {target!r} is missing from {self.folder}; the folder is incomplete or was made for "
                    f"another architecture than {self.config.model_type!r}, get it again"
                )
        order = {name: i for i, name in enumerate(self.tensors)}
        return dict(sorted(found.items(), key=lambda item: order[item[1]]))

    def iter_tensors(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        """Read tensors one at a time, shard by shard.

        A tensor's pages leave memory with it: every tensor has a mapping of its own.

        Args:
            names: Names in the files; all by default. Read in this order.

        Yields:
            Name in the files and the tensor, dtype as stored, on CPU.

        Raises:
            CheckpointError: No such tensor, or a file changed since it was opened.
        """
        for name in self.tensors if names is None else names:
            yield name, self.tensor(name)

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor by its name in the files.

        Raises:
            CheckpointError: No such tensor, or its file can no longer be read.
        """
        if name not in self.tensors:
            raise CheckpointError(f"no tensor {name!r} in {self.folder}")
        file = self.tensors[name].file
        try:
            with safe_open(file, framework="pt", device="cpu") as shard:
                return shard.get_tensor(name)  # type: ignore[no-any-return]
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} can no longer be read ({error}); get the file again") from error

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        info = self.tensors[name]
        if info.shape != shape:
            raise CheckpointError(
                f"tensor {name!r} in {info.file} has shape {list(info.shape)}, config.json asks for {list(shape)}; "
                "weights and config.json belong to different models, get the folder again"
            )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Tensors a model stores: shapes by canonical name, every name's canonical name, and patterns that may miss."""

    shapes: Mapping[str, tuple[int, ...]]
    aliases: Mapping[str, str]
    may_miss: tuple[str, ...]

    def optional(self, name: str) -> bool:
        """Whether transformers accepts a checkpoint without this tensor."""
        return any(re.search(pattern, name) for pattern in self.may_miss)


def _wanted(model: torch.nn.Module) -> _Wanted:
    shapes: dict[str, tuple[int, ...]] = {}
    aliases: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        canonical = first.setdefault(id(tensor), name)
        aliases[name] = canonical
        shapes.setdefault(canonical, tuple(tensor.shape))
    return _Wanted(shapes, aliases, tuple(getattr(model, "_keys_to_ignore_on_load_missing", None) or ()))


def read_config(folder: Path, *, trust_remote_code: bool) -> PretrainedConfig:
    """The transformers configuration of a causal language model.

    Raises:
        CheckpointError: There is no config.json, or it cannot be read.
        UnsupportedArchitectureError: transformers does not know its model type as a causal language model.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"no config.json in {folder}; give a Hugging Face model folder")
    try:
        data = read_json(path)
        kind = data.get("model_type")
        check_layers(data, folder)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); get the file again") from error
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # as above
        raise UnsupportedArchitectureError(
            f"{path} has model type {kind!r}, which the installed transformers does not know with these settings; "
            "use a causal language model that transformers supports, or update transformers"
        ) from error
    own_code = trust_remote_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not own_code:
        raise UnsupportedArchitectureError(
            f"{path} has model type {kind!r}, which is not a causal language model that transformers knows; "
            "give a decoder-only text model"
        )
    return config


def _read_headers(folder: Path) -> dict[str, TensorInfo]:
    """Names, shapes and dtypes of every tensor, from the headers alone."""
    if (folder / _INDEX).is_file():
        index = _read_index(folder / _INDEX)
        found = [_read_shard(inside(folder, file, CheckpointError)) for file in dict.fromkeys(index.values())]
        tensors = {name: info for shard in found for name, info in shard.items()}
        for name, file in index.items():
            if name not in tensors:
                raise CheckpointError(
                    f"{folder / file} lacks tensor {name!r} that {_INDEX} promises; get the file again"
                )
        return tensors
    if (folder / _SINGLE).is_file():
        return _read_shard(folder / _SINGLE)
    others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".h5", ".msgpack"))
    if others:
        raise CheckpointError(f"{folder} holds {others[0]} but no safetensors; {convert_hint(str(folder))}")
    raise CheckpointError(f"no {_SINGLE} or {_INDEX} in {folder}; the folder has no weights, get it again")


def _read_index(path: Path) -> dict[str, str]:
    try:
        weight_map = read_json(path)["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a safetensors index ({error}); get the file again") from error
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(f"{path} is not a safetensors index (weight_map); get the file again")
    return weight_map


def _read_shard(path: Path) -> dict[str, TensorInfo]:
    if not path.is_file():
        raise CheckpointError(f"weight file {path} is missing; the folder is incomplete, get it again")
    try:
        with safe_open(path, framework="pt", device="cpu") as shard:
            names = shard.offset_keys()
            slices = {name: shard.get_slice(name) for name in names}
            return {n: TensorInfo(tuple(s.get_shape()), s.get_dtype(), path) for n, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is truncated or corrupt ({error}); get the file again"
        ) from error
