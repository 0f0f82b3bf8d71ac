"""Weights as safetensors bytes: what training resumes from, and what outlives it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from contracts.errors import ConfigError, ContractError, DataError, DivergedError
from pretraining.build import Description, Part, Role, assemble
from pretraining.objective import Objective

FORMAT = 1
KEY = "winnow"
Kind = Literal["training", "step", "encoder"]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A state of training: weights, optimizer and losses as tensors, the rest as JSON.

    Attributes:
        metadata: `step`, how many steps are done; `run`, what a resumed run must agree in;
            `numerics`, on what it was computed.
        kind: `step` is that in front of a step that is not finite, with its batch and the weights
            that are never trained.
    """

    tensors: Tensors
    metadata: Mapping[str, Any]
    kind: Kind = "training"

    @property
    def step(self) -> int:
        """How many steps are done."""
        return int(self.metadata["step"])

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors under a prefix, without it."""
        head = f"{prefix}/"
        return {k.removeprefix(head): v for k, v in self.tensors.items() if k.startswith(head)}

    def to_bytes(self) -> bytes:
        """Return the same bytes for the same state."""
        return _pack(self.tensors, {"kind": self.kind, **self.metadata})

    @classmethod
    def from_bytes(cls, data: bytes, kind: Kind = "training") -> Checkpoint:
        """Read what `to_bytes` wrote.

        Raises:
            DataError: the bytes are damaged, or something else.
        """
        tensors, metadata = _unpack(data, kind)
        return cls(tensors, metadata, kind)


def exported(objective: Objective, description: Mapping[str, Any]) -> bytes:
    """Return the exports of a trained objective, and all it takes to rebuild them.

    Args:
        objective: made by `build`.
        description: whatever else is worth knowing, as JSON: steps, the arm.

    Raises:
        ConfigError: the objective was not made by `build`.
        ContractError: an encoder keeps state outside its state_dict.
        DataError: a weight is not finite.
    """
    if not objective.description:
        raise ConfigError(
            f"{type(objective).__name__} was made by hand, so nobody could rebuild it: "
            "make it with pretraining.build.build."
        )
    tensors = _exports(objective)
    for name in (*objective.exports, *objective.heads):
        module = objective.get_submodule(name)
        hidden = {key for key, _ in module.named_buffers()} - set(module.state_dict())
        if hidden:
            raise ContractError(
                f"{name} has buffers that its state_dict lacks, {sorted(hidden)}: "
                "make them persistent, or compute them in forward."
            )
    refuse_non_finite(tensors, "the trained weights")
    metadata = {"kind": "encoder", "made": objective.description, "description": dict(description)}
    return _pack(tensors, metadata)


def description_of(data: bytes) -> dict[str, Any]:
    """Return the description given to `exported`, with `made`: classes, parameters and seed.

    Raises:
        DataError: as `rebuild`.
    """
    metadata = _unpack(data, "encoder")[1]
    return {**metadata["description"], "made": metadata["made"]}


def rebuild(
    data: bytes, *, allow: Collection[str] = (), recipe_dir: Path | None = None
) -> dict[str, Any]:
    """Return the exported modules by name, with their weights, in evaluation mode.

    The bytes are taken to be hostile: nothing in them is run, a module is laid out without
    memory until its shapes agree with the file's, and code outside of this project is imported
    only by a reference that the caller allows.

    Args:
        data: what `exported` returned.
        allow: references such as `my.module:Encoder` that the caller trusts.
        recipe_dir: the folder to which such a reference is relative.

    Raises:
        DataError: it is no such file, is damaged, of a newer format, names unknown methods or
            parameters, or has missing, surplus, misshapen or non-finite weights.
    """
    objective, tensors, _ = _laid_out(data, allow, recipe_dir)
    modules: dict[str, Any] = {}
    for name in objective.exports:
        module = objective.get_submodule(name)
        _fill(module, name, tensors)
        modules[name] = module.eval()
    return modules


def predictor(
    data: bytes, *, allow: Collection[str] = (), recipe_dir: Path | None = None
) -> Objective:
    """Return the objective of an exported file, for its `predict`, in evaluation mode.

    Args:
        data: what `exported` returned.
        allow: as of `rebuild`.
        recipe_dir: as of `rebuild`.

    Raises:
        ConfigError: it predicts nothing, or reads more than payload and text.
        DataError: as `rebuild`.
    """
    objective, tensors, _ = _laid_out(data, allow, recipe_dir)
    name = type(objective).__name__
    if not objective.predicts:
        raise ConfigError(f"{name} predicts nothing: it has no `predicts`.")
    notes = [c.reads for c in objective.codecs.values() if c.reads.startswith("column.")]
    if notes:
        raise ConfigError(f"{name} reads {notes}, which are no payload: it cannot predict.")
    for part in (*objective.exports, *objective.heads):
        _fill(objective.get_submodule(part), part, tensors)
    return objective.eval()


def load_encoder(path: str | Path, *, tower: str | None = None) -> Any:
    """Return an encoder that a training exported: a torch module in evaluation mode.

    It has `dim` and `codec`: `pretraining.codecs.column(encoder.codec, values)` makes of pictures
    (encoded bytes), texts or clips the batch that it takes, as the training saw them.

    Args:
        path: of the safetensors file, a run's `checkpoint`.
        tower: what the encoder reads, `image` or `text`, where the file has several.

    Raises:
        ConfigError: the file has no such tower, or several and none is named.
        DataError: as `rebuild`.
    """
    modules = {module.codec.reads: module for module in rebuild(Path(path).read_bytes()).values()}
    if tower is None and len(modules) == 1:
        return next(iter(modules.values()))
    if tower not in modules:
        known = " or ".join(f'tower="{name}"' for name in modules)
        raise ConfigError(
            f"{path}: give {known}."
            if tower is None
            else f"{path}: has no tower {tower!r}: {known}."
        )
    return modules[tower]


def encoder_of(
    data: bytes,
    role: str,
    asked: Role,
    *,
    allow: Collection[str] = (),
    recipe_dir: Path | None = None,
) -> tuple[Part, dict[str, Tensor]]:
    """Return how to make the encoder that an exported file has for a role, and its weights.

    It is the file's role of the same name, else the only one that fits; an encoder is found in a
    tower too.

    Args:
        data: what `exported` returned.
        role: that it is for.
        asked: what the role asks for.
        allow: as of `rebuild`.
        recipe_dir: as of `rebuild`.

    Raises:
        ConfigError: no encoder of the file fits, or several do.
        DataError: as `rebuild`.
    """
    objective, tensors, description = _laid_out(data, allow, recipe_dir)
    heads = {}
    for name, path in objective.places.items():
        for export in objective.exports:
            if f"{path}.".startswith(f"{export}."):
                inside = path.removeprefix(export).removeprefix(".")
                heads[name] = f"{export}/{inside}." if inside else f"{export}/"
    fitting = [
        n for n in heads if asked.misfit(objective.get_submodule(objective.places[n])) is None
    ]
    chosen = [role] if role in fitting else fitting
    if len(chosen) != 1:
        what = f"{len(fitting)} encoders that fit: {fitting}" if fitting else "no encoder that fits"
        raise ConfigError(f"the file has {what}, of {sorted(heads)}.")
    head = heads[chosen[0]]
    found = {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
    return description.encoders[chosen[0]], found


def head_of(
    data: bytes, *, allow: Collection[str] = (), recipe_dir: Path | None = None
) -> dict[str, Tensor]:
    """Return the weights of the only head that an exported file has beside its encoders.

    Args:
        data: what `exported` returned.
        allow: as of `rebuild`.
        recipe_dir: as of `rebuild`.

    Raises:
        ConfigError: it has no head, or several.
        DataError: as `rebuild`.
    """
    objective, tensors, _ = _laid_out(data, allow, recipe_dir)
    if len(objective.heads) != 1:
        raise ConfigError(f"the file has the heads {list(objective.heads)}, where one is needed.")
    head = f"{objective.heads[0]}/"
    return {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}


def _laid_out(
    data: bytes, allow: Collection[str], recipe_dir: Path | None
) -> tuple[Objective, dict[str, Tensor], Description]:
    """Return the objective of an exported file without memory, and the weights of its exports."""
    tensors, metadata = _unpack(data, "encoder")
    try:
        description = _description(metadata)
        refuse_foreign(description, allow)
        with torch.device("meta"):
            objective = assemble(description, recipe_dir=recipe_dir)
    except (ValidationError, ConfigError) as error:
        raise DataError(
            f"the checkpoint does not describe an encoder known here: {error}"
        ) from None
    refuse_other_weights(_exports(objective), tensors, "the checkpoint")
    refuse_non_finite(tensors, "the checkpoint")
    return objective, tensors, description


def _fill(module: nn.Module, name: str, tensors: Tensors) -> None:
    """Give a module that is laid out without memory the weights that a file has under its name."""
    laid_out = {
        key: torch.empty_strided(bare.shape, bare.stride(), dtype=bare.dtype).copy_(
            tensors[f"{name}/{key}"]
        )
        for key, bare in module.state_dict().items()
    }
    module.load_state_dict(laid_out, assign=True)


def _description(metadata: Mapping[str, Any]) -> Description:
    """Return how an objective was made; the first files said the side of pictures apart."""
    made = Description.model_validate(metadata.get("made"))
    side_px = metadata.get("description", {}).get("side_px")
    if side_px is None:
        return made
    with_side = {
        role: Part(name=part.name, parameters={**part.parameters, "side_px": side_px})
        if part.name in ("small_cnn", "vit")
        else part
        for role, part in made.encoders.items()
    }
    return made.model_copy(update={"encoders": with_side})


def refuse_foreign(description: Description, allow: Collection[str]) -> None:
    """Raise DataError where a file names code outside of this project that is not allowed."""
    foreign = {part.name for part in (description.objective, *description.encoders.values())}
    refused = sorted(name for name in foreign if ":" in name and name not in allow)
    if refused:
        raise DataError(f"the checkpoint names foreign code, {refused}: allow it explicitly.")


def refuse_other_weights(expected: Tensors, found: Tensors, what: str) -> None:
    """Raise DataError unless both have the same names, shapes and types."""
    missing, surplus = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or surplus:
        raise DataError(
            f"{what} is of another model: it lacks {missing[:3]} and has unknown {surplus[:3]} "
            f"({len(missing)} and {len(surplus)} in all)."
        )
    for name, tensor in expected.items():
        here, there = (
            (tuple(tensor.shape), tensor.dtype),
            (tuple(found[name].shape), found[name].dtype),
        )
        if here != there:
            raise DataError(f"{what} is of another model: {name} is {there}, not {here}.")


def refuse_non_finite(tensors: Tensors, what: str) -> None:
    """Raise DivergedError where a number is NaN or infinite."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DivergedError(f"{what}: {name} has numbers that are not finite.")


def _exports(objective: Objective) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": tensor.detach()
        for name in (*objective.exports, *objective.heads)
        for key, tensor in objective.get_submodule(name).state_dict().items()
    }


def _pack(tensors: Tensors, metadata: Mapping[str, Any]) -> bytes:
    # One key: safetensors keeps metadata in a hash map, whose order is drawn anew each time.
    text = json.dumps({"format": FORMAT, **metadata}, sort_keys=True, allow_nan=False)
    return save_tensors({k: v.cpu().contiguous() for k, v in tensors.items()}, {KEY: text})


def _unpack(data: bytes, kind: Kind) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if data.startswith(b"version https://git-lfs"):
        raise DataError("this is a Git LFS pointer, not the weights: fetch them with git lfs pull.")
    try:
        tensors = load_tensors(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = json.loads(header.get("__metadata__", {}).get(KEY, "{}"))
    except (SafetensorError, ValueError, RecursionError) as error:
        # The length of a safetensors header may begin with the first byte of a pickle.
        if data.startswith((b"PK\x03\x04", b"\x80")):
            raise DataError(
                "this is a pickle, which may run code when it is opened: only safetensors are read."
            ) from None
        raise DataError(f"the checkpoint is cut, damaged or no safetensors file: {error}") from None
    if not isinstance(metadata, dict) or "format" not in metadata:
        raise DataError("these are safetensors, but not of this trainer: their metadata is absent.")
    if metadata.pop("format") != FORMAT:
        raise DataError(
            f"the checkpoint is not of format {FORMAT}, the one known here: update winnow."
        )
    found = metadata.pop("kind", None)
    if found != kind:
        raise DataError(f"this is a checkpoint of kind {found!r}, where one of {kind!r} is needed.")
    return tensors, metadata
