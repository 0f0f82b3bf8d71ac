"""The encoders and scorers of a plan, built once a process, and those that a run exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from contracts import methods
from contracts.errors import ConfigError, DataError, Problem, nearest
from contracts.params import parse
from flows.recipe.plan import Node
from flows.workers import one_thread


def encoder(node: Node, device: str | None) -> Any:
    """Return a node's encoder.

    Raises:
        DataError: the file of an exported one is damaged, or none of this trainer.
    """
    assert node.method is not None
    if node.file is None:
        return _built(node.method, _frozen(node.parameters), device)
    state = node.file.stat()
    known = (state.st_mtime_ns, state.st_size)
    return _exported(
        node.file, known, device, node.method.recipe_dir, **dict(_frozen(node.parameters))
    )


def scorer(node: Node, slot: str, device: str | None) -> Any:
    """Return what fills a slot."""
    method, parameters = node.slots[slot]
    return _built(method, _frozen(parameters), device)


def predictions(
    path: Path, *, allow: Sequence[str], code_dir: Path
) -> tuple[list[str], dict[str, str]]:
    """Return what a trained objective reads to predict, and what it predicts, by its kind.

    Raises:
        ConfigError: it predicts nothing.
        DataError: the file is damaged, or none of this trainer.
    """
    objective = _predictor(path, path.read_bytes(), allow, code_dir)
    return sorted({c.reads for c in objective.codecs.values()}), dict(objective.predicts)


def towers(
    path: Path, tower: Any, *, allow: Sequence[str], code_dir: Path, where: str
) -> list[str]:
    """Return what an exported encoder reads, of `image` and `text`: `tower` alone where it is set.

    Args:
        path: the exported file.
        tower: what the recipe's section says; None for all.
        allow: references to code of one's own that the file may name.
        code_dir: the folder to which they are relative.
        where: the section, for the key of an error.

    Raises:
        ConfigError: the encoder has no such tower.
        DataError: the file is damaged, or none of this trainer.
    """
    from embeddings.checkpoint import Checkpoint, towers_of

    found = towers_of(_modules(path, path.read_bytes(), allow, code_dir))
    if tower is None:
        return list(found)
    parse(Checkpoint, {"tower": tower}, where=where)
    if tower not in found:
        message = f"the encoder has no {tower} tower.{nearest(tower, found)}"
        raise ConfigError([Problem(f"{where}.tower", message)])
    return [tower]


@lru_cache(maxsize=8)
def _built(method: Any, parameters: tuple[tuple[str, Any], ...], device: str | None) -> Any:
    made = method.load()(device, **dict(parameters))
    one_thread()
    return made


def _frozen(parameters: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (name, tuple(v) if isinstance(v, list) else v) for name, v in sorted(parameters.items())
    )


@lru_cache(maxsize=4)
def _exported(
    path: Path, _state: tuple[int, int], device: str | None, recipe_dir: Path | None,
    *, allow: tuple[str, ...], tower: Any = None, predict: bool = False,
    side_px: int | None = None, unscaled: bool = False,
) -> Any:  # fmt: skip
    """Return the encoder of an exported file, or what predicts, built for each state of it."""
    from embeddings._prediction import Prediction
    from embeddings.checkpoint import Checkpoint, OtherPixels
    from pretraining.checkpoint import description_of

    data = path.read_bytes()
    # One's own code decides about the vectors too.
    code = [methods.source_hash(name, recipe_dir=recipe_dir) for name in allow]
    description = {**description_of(data), "code": code}
    if predict:
        return Prediction(_predictor(path, data, allow, recipe_dir), description, device)
    modules = _modules(path, data, allow, recipe_dir)
    if side_px is not None or unscaled:
        description |= {"side_px": side_px, "unscaled": unscaled}
        for name, module in modules.items():
            if module.codec.reads == "image":
                modules[name] = OtherPixels(module, side_px=side_px, unscaled=unscaled)
    return Checkpoint(modules, description, device, tower=tower)


def _predictor(path: Path, data: bytes, allow: Sequence[str], recipe_dir: Path | None) -> Any:
    from pretraining.checkpoint import predictor

    try:
        return predictor(data, allow=allow, recipe_dir=recipe_dir)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _modules(
    path: Path, data: bytes, allow: Sequence[str], recipe_dir: Path | None
) -> dict[str, Any]:
    from pretraining.checkpoint import rebuild

    try:
        return rebuild(data, allow=allow, recipe_dir=recipe_dir)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
