"""Pretrain: an arm of records becomes an encoder, found where it was trained before."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contracts import methods
from contracts.errors import ConfigError, Problem, nearest
from contracts.params import names_of
from flows.answer import training_log
from flows.answer.arms import UNTRAINED, Arm
from flows.recipe.sections import PretrainSection
from flows.workers import one_thread
from storage import commit, seals, shards, tables
from storage.store import Object, Store, key_of

SAVE_EVERY = 200


@dataclass(frozen=True)
class Training:
    """One training: an arm, the section, a seed; `steps` 0 gives the initial weights."""

    root: Path
    pool: str
    arm: Arm
    section: PretrainSection
    steps: int
    seed: int
    recipe_dir: Path
    device: str | None = None

    @property
    def encoder_name(self) -> str:
        """The encoder's file or reference."""
        return encoder_name(self.section)

    def made_by(self) -> dict[str, Any]:
        """Return what the weights depend on."""
        # A key that is not given is left out, so that what was trained before it came is found.
        section = {
            k: v
            for k, v in asdict(self.section).items()
            if k not in ("steps", "seed") and (v is not None or k in _INITIAL)
        }
        return {
            "method": "pretrain",
            "version": 1,
            "sources": [
                methods.source_hash(name, recipe_dir=self.recipe_dir)
                for name in (self.section.objective, self.encoder_name)
            ],
            "section": section if self.steps else {k: section[k] for k in _INITIAL},
            "arm": self.arm.content if self.steps else UNTRAINED,
            "steps": self.steps,
            "seed": self.seed,
        }


_INITIAL = ("objective", "encoder", "text_encoder", "own", "side_px")


def check(section: PretrainSection, recipe_dir: Path) -> Any:
    """Return the objective, built to find what is wrong with its section before anything runs.

    Raises:
        ConfigError: with every problem, each with its key.
    """
    objective = methods.load("pretraining.objectives", section.objective, recipe_dir=recipe_dir)
    legal = [*names_of(PretrainSection), *names_of(objective)]
    unknown = [k for k in section.own if k not in names_of(objective)]
    if unknown:
        raise ConfigError(
            [Problem(f"pretrain.{k}", f"unknown key.{nearest(k, legal)}") for k in unknown]
        )
    built = build(section, 0, recipe_dir)
    from pretraining.train import check as check_settings

    check_settings(built, section.batch, _settings(section))
    return built


def _settings(section: PretrainSection) -> dict[str, Any]:
    """Return the keys that are parameters of `train`, but for the steps and the seed."""
    from pretraining.train import train

    names = set(names_of(train)) - {"steps", "seed"}
    return {name: value for name, value in vars(section).items() if name in names}


def build(section: PretrainSection, seed: int, recipe_dir: Path) -> Any:
    """Return the objective with its initial weights."""
    from pretraining.build import build as built

    name, parameters = _encoder(section)
    return built(
        section.objective,
        dict(section.own),
        name,
        parameters,
        text_encoder_section=dict(section.text_encoder or {}),
        seed=seed,
        recipe_dir=recipe_dir,
    )


def encoder_name(section: PretrainSection) -> str:
    """Return the encoder's file or reference."""
    return _encoder(section)[0]


def _encoder(section: PretrainSection) -> tuple[str, dict[str, Any]]:
    """Return the encoder's name and parameters: `encoder = "vit"`, or a section with `name`."""
    if isinstance(section.encoder, str):
        return section.encoder, {}
    given = dict(section.encoder)
    return str(given.pop("name", "small_cnn")), given


def trained(task: Training) -> Object:
    """Return the encoder of a training as a safetensors object; resumed where it was stopped."""
    store = Store(task.root)
    made_by = task.made_by()
    found = store.find(key_of(made_by))
    if found is not None:
        return found.parts[0]
    data, numerics = _train(task, store, key_of(made_by))
    with store.stage() as staged:
        staged.write(data)
        item = store.publish(
            staged,
            pool=task.pool,
            table="checkpoints",
            part=f"{task.arm.file_name}-{task.seed}",
            rows=0,
            suffix="safetensors",
        )
    store.publish_manifest(made_by, [item], {"numerics": dict(numerics)})
    (store.root / "training" / f"{key_of(made_by)}.safetensors").unlink(missing_ok=True)
    commit.failpoint("pretrain.done")
    return item


def _train(task: Training, store: Store, key: str) -> tuple[bytes, Mapping[str, Any]]:
    from pretraining.batches import batches
    from pretraining.checkpoint import Checkpoint, exported
    from pretraining.journal import Journal
    from pretraining.train import train

    one_thread()
    section = task.section
    objective = build(section, task.seed, task.recipe_dir)
    description = {"side_px": section.side_px, "steps": task.steps, "arm": task.arm.name}
    if not task.steps:
        return exported(objective, description), {}
    assert task.arm.rows is not None
    rows = tables.read(store, task.arm.rows)
    state = store.root / "training" / f"{key}.safetensors"
    resume = Checkpoint.from_bytes(seals.opened(state)) if state.is_file() else None
    device = task.device or _device()
    with (
        closing(shards.ShardSamples(*task.arm.folders, records=rows)) as samples,
        training_log.opened(state.with_suffix(".jsonl"), resume.step if resume else 0) as write,
    ):
        journal = Journal(write, steps=task.steps)
        done = train(
            objective,
            lambda start: journal.timed(
                batches(
                    samples,
                    reads=objective.reads,
                    side_px=section.side_px,
                    batch=section.batch,
                    seed=task.seed,
                    start=start,
                    steps=task.steps,
                    tokenize=getattr(objective, "tokenize", None),
                )
            ),
            lambda checkpoint: _save(store, state, seals.sealed(checkpoint.to_bytes())),
            resume,
            device,
            journal,
            steps=task.steps,
            seed=task.seed,
            save_every=SAVE_EVERY,
            **_settings(section),
        )
    return exported(done.objective.cpu(), description), done.checkpoint.metadata["numerics"]


def _save(store: Store, path: Path, data: bytes) -> None:
    commit.write(path, data, temporary=store.temporary)
    commit.failpoint("pretrain.saved")


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
