"""Pretrain: an arm of records becomes an encoder, found where it was trained before."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from contracts import methods
from contracts.errors import ConfigError, ContractError, DataError, Problem, nearest
from contracts.params import names_of
from contracts.uid import hex_uid
from flows.answer import columns, stopping, training_log
from flows.answer.arms import UNTRAINED, Arm
from flows.measure.runtime import Runtime
from flows.recipe.sections import VECTOR, PretrainSection, Problems, is_fit
from flows.workers import one_thread
from storage import commit, seals, shards, tables
from storage.store import Object, Store, key_of

STATES = "states"
"""The table of what a training may be continued from."""
SAVE_EVERY = 200
TIMED_STEPS = 10
"""As many as make a line of the log."""


@dataclass(frozen=True)
class Training:
    """One training: an arm, the section, a seed; `steps` 0 gives the initial weights.

    Attributes:
        trunk: the training in whose last state this one begins; the initial weights where None.
        until: the training stops after so many of its steps, as others begin there.
    """

    root: Path
    pool: str
    arm: Arm
    section: PretrainSection
    steps: int
    seed: int
    recipe_dir: Path
    device: str | None = None
    trunk: Training | None = None
    until: int | None = None

    @property
    def keeps_state(self) -> bool:
        """Whether another training may go on from this one: it is the recipe's own."""
        own = self.arm.of_recipe and self.seed == self.section.seed
        return own and self.steps > 0 and self.until is None

    def made_by(self) -> dict[str, Any]:
        """Return what the weights depend on."""
        from pretraining.train import VERSION

        asked = roles(self.section, self.recipe_dir)
        parts = {
            "objective": self.section.objective,
            "own": {k: v for k, v in self.section.own.items() if k not in asked},
            "roles": {role: _identity(given) for role, given in asked.items()},
        }
        # A key that is not given is left out, so that what was trained before it came is found.
        settings = {
            k: v
            for k, v in asdict(self.section).items()
            if k not in (*parts, *_APART) and v is not None
        }
        if self.section.columns:
            # What they hold is in the arm's content, whatever expression gave it.
            settings["columns"] = sorted(self.section.columns)
        # Likewise of what composes batches: the key says that it is given, and in which order.
        settings |= {key: True for key in ("draws", "groups") if key in settings}
        if self.section.streams is not None:
            settings["streams"] = [[n, of.batch] for n, of in self.section.streams.items()]
        return {
            "method": "pretrain",
            "version": VERSION,
            "sources": [
                methods.source_hash(name, recipe_dir=self.recipe_dir)
                for name in references(self.section)
            ],
            "section": {**parts, **settings} if self.steps else parts,
            "arm": self.arm.content if self.steps else UNTRAINED,
            "steps": self.steps,
            "seed": self.seed,
            **({} if self.trunk is None else {"trunk": key_of(self.trunk.made_by())}),
            **({} if self.until is None else {"until": self.until}),
            # Of initial weights too, as these are then those of the state.
            **weight_digests(replace(self.section, encoder=None, own={})),
        }


_APART = ("encoder", "steps", "seed", "continue_from", "probe_every")
"""Keys of [pretrain] that stand elsewhere in what weights depend on, or that change none."""
_FOUND = ("path", "run", "allow")
"""What `flows.recipe.bootstrap` adds to a role's section that has `weights`."""


def roles(section: PretrainSection, recipe_dir: Path) -> dict[str, dict[str, Any]]:
    """Return the section of each role of the objective, empty where there is none.

    Raises:
        ConfigError: the first role is given twice, or a section is none.
        ContractError: a role is called like a key of [pretrain].
    """
    from pretraining.build import roles_of

    objective = methods.load("pretraining.objectives", section.objective, recipe_dir=recipe_dir)
    asked = list(roles_of(objective))
    taken = [role for role in asked if role in names_of(PretrainSection) and role != "encoder"]
    if taken or "encoder" in asked[1:]:
        raise ContractError(
            f"{section.objective}: a role may not be called {taken or ['encoder']}, which is a key "
            "of [pretrain]."
        )
    given = {role: section.own[role] for role in asked if role in section.own}
    if section.encoder is not None and asked:
        if asked[0] in given:
            raise ConfigError(
                [Problem("pretrain.encoder", f"is the {asked[0]}, which is given too: leave one.")]
            )
        given[asked[0]] = section.encoder
    found = {}
    for role in asked:
        value = given.get(role, {})
        if not isinstance(value, (str, Mapping)):
            raise ConfigError([Problem(f"pretrain.{role}", f"is a section, [pretrain.{role}].")])
        found[role] = {"name": value} if isinstance(value, str) else dict(value)
    return found


def references(section: PretrainSection) -> list[str]:
    """Return what of a training is one's own code."""
    given = [section.encoder, *section.own.values()]
    names = [section.objective, *(g for g in given if isinstance(g, str))]
    for of in given:
        if isinstance(of, Mapping):
            names += [str(of.get("name", "")), *of.get("allow", ())]
    return [name for name in names if ":" in name]


def weight_digests(section: PretrainSection) -> dict[str, str]:
    """Return the sha256 of the files that roles begin with, by the key that names them."""
    given = {"encoder": section.encoder, **section.own, "continue_from": section.continue_from}
    return {
        role: shards.file_sha256(Path(of["path"]))
        for role, of in given.items()
        if isinstance(of, Mapping) and "path" in of
    }


def _identity(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a key says of a role: of weights and tables what they are, by a digest."""
    found = {
        k: key_of(v) if isinstance(v, Mapping) else v for k, v in given.items() if k not in _FOUND
    }
    if "path" in given:
        found["weights"] = shards.file_sha256(Path(given["path"]))
    return found


def check(section: PretrainSection, recipe_dir: Path) -> Any:
    """Return the objective, built to find what is wrong with its section before anything runs.

    Raises:
        ConfigError: with every problem, each with its key.
    """
    objective = methods.load("pretraining.objectives", section.objective, recipe_dir=recipe_dir)
    asked = roles(section, recipe_dir)
    legal = [*names_of(PretrainSection), *names_of(objective), *asked]
    problems = [
        Problem(f"pretrain.{k}", _unknown(k, v, asked, legal))
        for k, v in section.own.items()
        if k not in (*names_of(objective), *asked)
    ]
    given = section.columns or {}
    problems += [
        Problem(f"pretrain.columns.{name}", f"is not read.{nearest(name, objective.columns)}")
        for name in given
        if name not in objective.columns or objective.columns[name].kind == "label_image"
    ]
    problems += [
        Problem(f"pretrain.columns.{name}", f"is required: an expression that gives a {of.kind}.")
        for name, of in objective.columns.items()
        if name not in given and not of.optional and of.kind != "label_image"
    ]
    problems += [
        Problem(f"pretrain.{role}", "is never trained: give it weights, or an encoder of [embed].")
        for role in objective.fixed
        if "weights" not in asked[role] and asked[role].get("name") != VECTOR
    ]
    problems += _composition_problems(section, objective)
    if (section.probe_every is None) != (section.validation_ratio is None):
        message = "goes with probe_every, and that with it: a probe needs records of its own."
        problems.append(Problem("pretrain.validation_ratio", message))
    if section.validation_ratio is not None and section.streams:
        problems.append(Problem("pretrain.validation_ratio", "goes with no streams."))
    if problems:
        raise ConfigError(problems)
    built = build(section, 0, recipe_dir)
    from pretraining.train import check as check_settings

    check_settings(built, section.batch, _settings(section))
    problems = _packing_problems(section, built)
    if problems:
        raise ConfigError(problems)
    state = continued(section)
    if state is not None:
        from pretraining.train import load_weights, refuse_other_training

        refuse_other_training(state, built, section.optimizer)
        if section.fits() or any(of.get("name") == VECTOR for of in asked.values()):
            return built  # Its weights have their shapes when tables and vectors are made.
        try:
            load_weights(state, built)
        except DataError as error:
            raise ConfigError([Problem("pretrain.continue_from", str(error))]) from None
    return built


def continued(section: PretrainSection) -> Any:
    """Return the state of the training that goes on in this one; None where there is none."""
    from pretraining.checkpoint import Checkpoint

    of = section.continue_from
    if not isinstance(of, Mapping):
        return None  # What is wrong with it was said when it was looked for.
    return Checkpoint.from_bytes(Path(of["path"]).read_bytes())


def _packing_problems(section: PretrainSection, objective: Any) -> list[Problem]:
    """Return what packed texts do not go with: their rows are no records."""
    keys = [
        *(f"[pretrain.columns] {name}" for name in section.columns or {}),
        *(f"`{key}`" for key in ("groups", "streams") if getattr(section, key) is not None),
    ]
    found = []
    for role, column in objective.inputs.items():
        others = [f"the column of {r}" for r, of in objective.inputs.items() if of != column]
        beside = ", ".join([*others, *keys])
        if beside and getattr(objective.codecs[column], "packing", None):
            message = f"makes rows that are no records: not with {beside}."
            found.append(Problem(f"pretrain.{role}.packing", message))
    return found


def _composition_problems(section: PretrainSection, objective: Any) -> list[Problem]:
    """Return what is wrong with how a section composes its batches."""
    found = []
    if section.groups is not None and (section.draws is not None or section.streams is not None):
        with_ = "draws" if section.draws is not None else "streams"
        found.append(Problem("pretrain.groups", f"goes with no {with_}: leave one of them out."))
    if section.members is not None and section.groups is None:
        found.append(Problem("pretrain.members", "says how many rows are of one of the `groups`."))
    elif section.members is not None and section.batch % section.members:
        message = f"a batch of {section.batch} is no multiple of {section.members}."
        found.append(Problem("pretrain.members", message))
    streams, wanted = list(section.streams or ()), list(objective.streams)
    if wanted and sorted(streams) != sorted(wanted):
        name, sections = objective.__name__, ", ".join(f"[pretrain.streams.{w}]" for w in wanted)
        message = f"{name} reads {sections}, not {streams or 'one set of records'}."
        found.append(Problem("pretrain.streams", message))
    parts = section.accumulate or 1
    found += [
        Problem(f"pretrain.streams.{n}.batch", f"{of.batch} is not {parts} equal parts.")
        for n, of in (section.streams or {}).items()
        if of.batch % parts
    ]
    return found


def _unknown(key: str, value: Any, asked: Mapping[str, Any], legal: Sequence[str]) -> str:
    if key == "side_px":
        return f"is a parameter of the encoder: write it below [pretrain.{next(iter(asked))}]."
    if isinstance(value, Mapping):
        return f"there is no such role.{nearest(key, asked)}"
    return f"unknown key.{nearest(key, legal)}"


def _settings(section: PretrainSection) -> dict[str, Any]:
    """Return the keys that are parameters of `train`, but for the steps and the seed."""
    from pretraining.train import train

    names = set(names_of(train)) - {"steps", "seed"}
    return {name: value for name, value in vars(section).items() if name in names}


def build(
    section: PretrainSection,
    seed: int,
    recipe_dir: Path,
    dims: Mapping[str, int] | None = None,
) -> Any:
    """Return the objective with its initial weights.

    Args:
        section: with the weights of its roles found.
        seed: of the weights.
        recipe_dir: the folder to which references are relative.
        dims: of the vectors that roles read, by their expression; 1 where the data are not known.
    """
    from pretraining.build import Part, default, roles_of
    from pretraining.build import build as built
    from pretraining.checkpoint import encoder_of, head_of

    objective = methods.load("pretraining.objectives", section.objective, recipe_dir=recipe_dir)
    specs, sections = roles_of(objective), roles(section, recipe_dir)
    parts, weights, heads, problems = {}, {}, {}, Problems()
    for role, given in sections.items():
        own = {k: v for k, v in given.items() if k not in (*_FOUND, "name", "weights", "frozen")}
        with problems.at(f"pretrain.{role}"):
            if not isinstance(given.get("frozen", False), bool):
                problems.add(f"pretrain.{role}.frozen", "is true or false.")
            if "weights" in given:
                if own or "name" in given:
                    raise ConfigError(f"takes class and parameters from its weights: not {[*own]}.")
                if "path" not in given:
                    continue  # What is wrong with them was said when they were looked for.
                data, allow = Path(given["path"]).read_bytes(), given.get("allow", ())
                parts[role], weights[role] = encoder_of(
                    data, role, specs[role], allow=allow, recipe_dir=recipe_dir
                )
                if role in objective.heads_of:
                    heads[role] = head_of(data, allow=allow, recipe_dir=recipe_dir)
            elif "name" in given or own:
                if given.get("name") == VECTOR and "dim" not in own:
                    own["dim"] = (dims or {}).get(str(own.get("of")), 1)
                name = given.get("name") or default(role, specs[role])
                parts[role] = Part(name=name, parameters=own)
    problems.raise_any()
    # A fit is not made yet where a section is only checked: what weights hold of such a parameter
    # stands for it, so that roles that must read alike do.
    held = {k: v for role in weights for k, v in parts[role].parameters.items()}
    for role, part in parts.items():
        known = {k: held.get(k) if is_fit(v) else v for k, v in part.parameters.items()}
        parts[role] = Part(name=part.name, parameters=known)
    return built(
        section.objective,
        {k: v for k, v in section.own.items() if k not in sections},
        parts,
        seed=seed,
        frozen=[role for role, given in sections.items() if given.get("frozen")],
        weights=weights,
        heads=heads,
        recipe_dir=recipe_dir,
    )


def with_tables(section: PretrainSection, runtime: Runtime) -> PretrainSection:
    """Return the section with the table of a fit, column by column, in place of its name."""

    def given(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {
            k: tables.read(runtime.store, runtime.models[v]).to_dict(as_series=False)
            if is_fit(v)
            else v
            for k, v in value.items()
        }

    own = {name: given(value) for name, value in section.own.items()}
    return replace(section, encoder=given(section.encoder), own=own)


def towers(section: PretrainSection, recipe_dir: Path) -> dict[str, str]:
    """Return what the trained encoder reads, of `image` and `text`, and by which export.

    Raises:
        ConfigError: the section is wrong.
    """
    import torch

    from embeddings.checkpoint import towers_of

    with torch.device("meta"):
        built = build(section, 0, recipe_dir)
    return towers_of({name: built.get_submodule(name) for name in built.exports})


def trained(task: Training) -> Object:
    """Return the encoder of a training as a safetensors object; resumed where it was stopped."""
    store = Store(task.root)
    made_by = task.made_by()
    found = store.find(key_of(made_by))
    if found is not None:
        return found.parts[0]
    data, numerics, state = _train(task, store, key_of(made_by))
    made = [_published(task, store, "checkpoints", data)]
    if state is not None:
        made.append(_published(task, store, STATES, state))
    store.publish_manifest(made_by, made, {"numerics": dict(numerics)})
    drop(_state(store, key_of(made_by)))
    commit.failpoint("pretrain.done")
    return made[0]


def _published(task: Training, store: Store, table: str, data: bytes) -> Object:
    with store.stage() as staged:
        staged.write(data)
        return store.publish(
            staged,
            pool=task.pool,
            table=table,
            part=f"{task.arm.file_name}-{task.seed}",
            rows=0,
            suffix="safetensors",
        )


def state_of(task: Training) -> Object | None:
    """Return the state that a training kept to go on from; None where it kept none.

    It is that in front of the decay of its schedule, else the last.
    """
    found = Store(task.root).find(key_of(task.made_by()))
    return found.parts[1] if found is not None and len(found.parts) > 1 else None


@dataclass(frozen=True)
class Cost:
    """What a training takes.

    Attributes:
        step_s: seconds of a step whose records are in memory.
        reading_s: seconds by which a record takes longer the first time.
        state_bytes: of its state.
        encoder_bytes: of its encoder.
        peak_memory_bytes: the most that the process held.
    """

    step_s: float
    reading_s: float
    state_bytes: int
    encoder_bytes: int
    peak_memory_bytes: int

    def seconds(self, steps: Sequence[int], batch: int, records: int) -> float:
        """Return how long trainings of so many steps take, each on so many records."""
        read = sum(min(n * batch, records) for n in steps)
        return sum(steps) * self.step_s + read * self.reading_s


def timed(task: Training) -> Cost:
    """Time the first steps of a training, in a folder of its own that is deleted.

    Ten steps that do not count, ten that read their records, and ten that have them in memory.
    """
    assert task.arm.rows is not None
    batch, rows = task.section.batch, tables.read(Store(task.root), task.arm.rows)
    if not task.section.orders():
        once = rows.head(2 * TIMED_STEPS * batch)
        rows = once.with_columns(repeats=pl.lit(1, dtype=rows["repeats"].dtype))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Store(Path(folder))
        item = tables.put(scratch, rows, pool=task.pool, table="arm", part="timed")
        until = min(3 * TIMED_STEPS, task.steps)
        tried = replace(
            task, root=scratch.root, arm=replace(task.arm, rows=item), trunk=None, until=until,
            section=replace(task.section, validation_ratio=None, probe_every=None),
        )  # fmt: skip
        state = _state(scratch, "timed")
        encoder, _, _ = _train(tried, scratch, state.stem)
        lines = [json.loads(line) for line in _log(state).read_text().splitlines()]
        seconds = [batch / line["records_per_s"] for line in lines]
        reading_s = max(0.0, seconds[-2] - seconds[-1]) / batch if len(seconds) > 2 else 0.0
        return Cost(
            seconds[-1], reading_s, state.stat().st_size, len(encoder),
            lines[-1]["peak_memory_bytes"],
        )  # fmt: skip


def log_of(task: Training) -> Path:
    """Return the file of a training's log."""
    return _log(_state(Store(task.root), key_of(task.made_by())))


def drop_states(task: Training) -> None:
    """Delete the states that a training, and all that it began from, left to go on from."""
    drop(_state(Store(task.root), key_of(task.made_by())))
    if task.trunk is not None:
        drop_states(task.trunk)


def drop(state: Path) -> None:
    """Delete the states of a training, and the step in which it was not finite."""
    for path in (state, _step(state), _kept(state)):
        path.unlink(missing_ok=True)


def _state(store: Store, key: str) -> Path:
    return store.root / "training" / f"{key}.safetensors"


def _log(state: Path) -> Path:
    return state.with_suffix(".jsonl")


def _step(state: Path) -> Path:
    return state.with_suffix(".step.safetensors")


def _kept(state: Path) -> Path:
    """Return the file of the state in front of the decay."""
    return state.with_suffix(".kept.safetensors")


def _stopped(task: Training, store: Store) -> Any:
    """Return the state of a training where it stops; it is kept until it is dropped."""
    key = key_of(task.made_by())
    found = saved(_state(store, key))
    if found is None or found.step != task.until:
        _train(task, store, key)
        found = saved(_state(store, key))
    return found


def saved(state: Path) -> Any:
    """Return the state of a training that lies in a file; None where there is none."""
    from pretraining.checkpoint import Checkpoint

    return Checkpoint.from_bytes(seals.opened(state)) if state.is_file() else None


def _train(task: Training, store: Store, key: str) -> tuple[bytes, Mapping[str, Any], bytes | None]:
    """Return the encoder, on what it was computed, and the state to go on from."""
    from pretraining.checkpoint import exported
    from pretraining.train import load_weights

    one_thread()
    section = task.section
    assert not section.fits(), "with_tables puts tables there"
    rows = None if task.arm.rows is None else tables.read(store, task.arm.rows)
    dims = {} if rows is None else columns.dims(rows)
    objective = build(section, task.seed, task.recipe_dir, dims)
    description = {"steps": task.steps, "arm": task.arm.name}
    before = None if task.trunk is not None else continued(section)
    if not task.steps:
        if before is not None:
            load_weights(before, objective)
        return exported(objective, description), {}, None
    assert rows is not None
    state = _state(store, key)
    resume, begin = saved(state), None
    if task.trunk is not None:
        begin = _stopped(task.trunk, store)
        if task.until is not None:  # A trunk goes on in the run that it is of.
            resume, begin = resume or begin, None
    rows, apart = _parted(section, rows)
    with (
        closing(shards.ShardSamples(*task.arm.folders, records=rows)) as samples,
        nullcontext()
        if apart is None
        else closing(shards.ShardSamples(*task.arm.folders, records=apart)) as validation,
    ):
        done = fit(
            objective, samples, section, state, validation=validation,
            columns=columns.codecs(section, objective, rows),
            composition=columns.composition(section, rows, samples.uids),
            lengths=_lengths(task, store, objective, samples),
            steps=task.steps, seed=task.seed,
            resume=resume, begin=begin, continued=before, until=task.until, device=task.device,
            temporary=store.temporary,
        )  # fmt: skip
    kept = None
    if task.keeps_state:
        in_front = begin or saved(_kept(state)) or done.checkpoint
        kept = in_front.to_bytes()
    return exported(done.objective.cpu(), description), done.checkpoint.metadata["numerics"], kept


def _parted(
    section: PretrainSection, rows: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Return the records that are trained on, and those of probes, the same of every arm.

    Raises:
        DataError: there is no record for one of them.
    """
    if section.validation_ratio is None:
        return rows, None
    apart = columns.of_probes(section, rows["uid"])
    if apart.all() or not apart.any():
        raise DataError(
            f"[pretrain] validation_ratio: of {rows.height:,} records it takes {apart.sum():,}."
        )
    return rows.filter(~apart), rows.filter(apart)


def _lengths(task: Training, store: Store, objective: Any, samples: Any) -> Any:
    """Return how many tokens each text of an arm is, where texts are packed: counted once."""
    from pretraining.packing import counted, packed_column

    column = packed_column(objective.codecs)
    if column is None:
        return None
    codec = objective.codecs[column]
    made_by = {
        "method": "lengths", "version": 1, "arm": task.arm.content,
        "vocabulary": key_of(asdict(codec.vocabulary)),
    }  # fmt: skip
    if task.section.validation_ratio is not None:
        made_by["validation_ratio"] = task.section.validation_ratio
    found = store.find(key_of(made_by))
    if found is None:
        frame = pl.DataFrame({"uid": samples.uids, "tokens": counted(samples, codec)})
        item = tables.put(
            store, frame.sort("uid"), pool=task.pool, table="lengths", part=task.arm.file_name
        )
        found = store.publish_manifest(made_by, [item], {})
    uids = pl.DataFrame({"uid": samples.uids})
    lengths = tables.read(store, found.parts[0])
    return uids.join(lengths, on="uid", how="left", maintain_order="left")["tokens"].to_numpy()


def fit(
    objective: Any,
    samples: Any,
    section: PretrainSection,
    state: Path,
    *,
    steps: int,
    seed: int,
    validation: Any = None,
    columns: Mapping[str, Any] | None = None,
    composition: Any = None,
    lengths: Any = None,
    resume: Any = None,
    begin: Any = None,
    continued: Any = None,
    until: int | None = None,
    device: str | None = None,
    temporary: Path | None = None,
) -> Any:
    """Train an objective on samples; return what `pretraining.train.train` returns.

    Args:
        objective: with its initial weights.
        samples: as `pretraining.batches.Samples`.
        section: [pretrain].
        state: the file in which the training's state is kept; beside it lie its log and, where a
            step is not finite, what `replay` takes.
        steps: of the optimizer.
        seed: of order and augmentation.
        validation: samples for probes; None for none.
        columns: codecs of columns beyond those that encoders read.
        composition: of the batches, a `pretraining.orders.Composition`; None for none.
        lengths: of texts that are packed, in tokens; counted where not given.
        resume: the state to go on from.
        begin: another training's state to begin from.
        continued: a state of a training over other records that goes on in this one.
        until: stop after so many steps.
        device: found by itself where not given.
        temporary: a folder for what is being written; that of the state where not given.

    Raises:
        KeyboardInterrupt: a stop was asked for; the state is kept.
    """
    from pretraining import ranks
    from pretraining.batches import batches, uids_of
    from pretraining.journal import Journal
    from pretraining.packing import Packed, packed_column
    from pretraining.probes import BATCHES, probe
    from pretraining.train import train

    codecs = {**objective.codecs, **(columns or {})}

    def failed(step: Any) -> str:
        column = packed_column(codecs)
        packed = None
        if column is not None:
            packed = Packed(samples, composition, codec=codecs[column], seed=seed, lengths=lengths)
        uids = uids_of(
            samples, composition, batch=section.batch, seed=seed, step=step.step,
            parts=section.accumulate or 1, packed=packed,
        )  # fmt: skip
        records = {"records": [hex_uid(int(uid)) for uid in uids]}
        kept = replace(step, metadata={**step.metadata, **records})
        commit.write(_step(state), seals.sealed(kept.to_bytes()), temporary=temporary)
        return f"This step again: winnow replay {shlex.quote(str(_step(state)))}"

    decay = _decay(section, steps)

    def save(checkpoint: Any) -> None:
        data = seals.sealed(checkpoint.to_bytes())
        if checkpoint.step == decay:
            commit.write(_kept(state), data, temporary=temporary)
        _save(state, data, temporary)

    probes: list[Any] = []
    if validation is not None and section.probe_every is not None:
        size = min(section.batch, len(validation.uids))
        count = min(BATCHES, len(validation.uids) // size)
        probes = list(
            batches(validation, codecs=codecs, batch=size, seed=seed, start=0, steps=count)
        )

    def probed(done: int) -> None:
        if probes and (done % (section.probe_every or 1) == 0 or done == steps):
            with journal.paused():
                loss = probe(
                    objective, probes, progress=(done - 1) / steps, seed=seed,
                    device=device or device_here(),
                )  # fmt: skip
            write(json.dumps({"step": done, "probe_loss": loss}) + "\n")

    first = ranks.own() == 0
    log = _log(state)
    with (
        training_log.opened(log, resume.step if resume else 0)
        if first
        else nullcontext(str) as write,
        stopping.asked() as stop,
    ):
        journal = Journal(write, steps=until or steps)
        done = train(
            objective,
            lambda start: journal.timed(
                batches(
                    samples, composition, codecs=codecs,
                    batch=section.batch, seed=seed, start=start, steps=steps,
                    parts=section.accumulate or 1, lengths=lengths,
                )
            ),
            save if first else None,
            resume,
            device or device_here(),
            journal if first else None,
            lambda done: done == until or stop(),
            begin,
            failed if first else None,
            probe=probed,
            continued=continued,
            save_at=() if decay is None else (decay,),
            steps=steps,
            seed=seed,
            save_every=SAVE_EVERY,
            **_settings(section),
        )  # fmt: skip
    if done.checkpoint.step < (until or steps):
        raise KeyboardInterrupt  # It was asked for; the state lies where a rerun finds it.
    return done


def _decay(section: PretrainSection, steps: int) -> int | None:
    """Return how many steps are done when the decay begins; None where the schedule has none."""
    from pretraining import schedules

    schedule = schedules.SCHEDULES[section.schedule]
    given = {name: getattr(section, name) for name in names_of(schedule)}
    own = schedules.parameters(section.schedule, given)
    return schedules.steps_before_decay(steps, **own)


def _save(path: Path, data: bytes, temporary: Path | None) -> None:
    commit.write(path, data, temporary=temporary)
    commit.failpoint("pretrain.saved")


def device_here() -> str:
    """Return the device that is taken where none is named."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
