"""A recipe: the TOML file that says what a curation is, read strictly, all errors together."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from contracts.errors import ConfigError, Problem, nearest
from contracts.methods import names
from contracts.params import Count, NotNegative, Positive, Ratio, Seed, Share, names_of, parse
from flows.recipe.expressions import Expression
from storage.store import checked_name

Format = Literal["webdataset", "parquet", "jsonl", "uids"]


@dataclass(frozen=True, kw_only=True)
class SourceSection:
    """One [[source]]: raw data that is read into the pool, again only what is new.

    Attributes:
        path: a folder, file, glob or range such as `{00..99}.tar`, relative to the recipe.
        name: of the source, part of every uid; that of the folder or file where not given.
        id: the column that names a record, in tars `key`; else its place or path does.
        text: the column of the text; the first known name, such as `caption`, where not given.
        image: the column of the picture; the first known name where not given.
        audio: the column of the sound; the first known name where there is no picture.
        volume: the column of the volume; the first known name where there is neither.
        label_image: the column of a picture's labels, a class from 0 to 254 for each pixel, 255 for
            none, in tars a member such as `seg.png`; of an image folder where they lie below the
            path: "masks/{stem}.png" by the picture's name without suffix, or "{path}_mask.png" by
            its path. A picture without them is quarantined.
        series: the column whose equal values make a series, such as the frames of a video.
        position: the column of a record's place in its series, a whole number.
        slices: of NIfTI and DICOM, each axial slice is a record, a picture; else each volume is
            one.
        payload: whether payloads are copied into the store, or stay where they are and are read
            there again.
        settle: files younger than so many seconds wait for the next run.
    """

    path: str
    name: str | None = None
    id: str | None = None
    text: str | None = None
    image: str | None = None
    audio: str | None = None
    volume: str | None = None
    label_image: str | None = None
    series: str | None = None
    position: str | None = None
    slices: bool = False
    payload: Literal["copy", "reference"] = "copy"
    settle: NotNegative = 0.0


@dataclass(frozen=True, kw_only=True)
class GroupsSection:
    """[guard.groups]: how unlike a rule may treat groups of records before the version is held.

    Attributes:
        by: columns or SQL, each of which gives every record its group.
        max_gap: by how much the share that a rule drops of a group may exceed what it drops of
            all other records; the version is held where the whole interval lies above.
        min_records: groups of which fewer reach a rule are not compared.
        intended: rules that are meant to drop groups unlike, such as one that keeps a language.
    """

    by: Sequence[str]
    max_gap: Ratio = 0.1
    min_records: Count = 50
    intended: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class GuardSection:
    """[guard]: what holds an ingest or a version back until a person has looked at it.

    Attributes:
        max_quarantined_ratio: the share of an ingest's new records that may be unusable; 0.2 from
            100 records on where not given.
        min_kept_ratio: the share of the pool, less the hold-out, that a version must keep.
        max_change_ratio: by how much the share that a rule drops of what reaches it may differ from
            the last version's, either way.
        groups: [guard.groups].
    """

    max_quarantined_ratio: Ratio | None = None
    min_kept_ratio: Ratio | None = None
    max_change_ratio: Ratio | None = None
    groups: GroupsSection | None = None


@dataclass(frozen=True, kw_only=True)
class CertificateSection:
    """[certificate]: what the kept cover of the pool, beside the best and beside random sets.

    Attributes:
        vector: the column by which records are near, such as "clip.vector".
        sample: records of the pool that are looked at, compared with every record.
        subsets: random sets of as many records that the kept are ranked among.
        seed: of both draws.
    """

    vector: str
    sample: Count = 2000
    subsets: Annotated[int, Field(ge=2)] = 1000
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class HoldoutSection:
    """[holdout]: the evaluation records, which no fit and no selection ever sees.

    Attributes:
        where: SQL; records for which it is true are held out.
        pool: another pool that is the evaluation data: nothing of this one is held out, and each
            [[evaluate]] names it as its `pool`.
        by_group: the column whose equal values are held out together or not at all.
        ratio: the share of the groups, or of the records, that is drawn where `where` is absent.
        seed: of that draw.
        near: the name of an annotation with a `cluster`; what shares one with a held-out record
            is held out too.
        sealed_ratio: the share of the held-out groups that no comparison reads; one that is run
            with --unseal reads them alone.
    """

    where: str | None = None
    pool: str | None = None
    by_group: str | None = None
    ratio: Ratio | None = None
    seed: Seed = 0
    near: str | None = None
    # Which records are held out does not depend on it: pins of fits are keyed by the repr, and an
    # encoder that was trained with it or without knows the same records.
    sealed_ratio: Ratio | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class CanariesSection:
    """[canaries]: planted duplicates, near-misses and corrupt files that test the rules.

    Attributes:
        count: how many of each kind are planted.
        kinds: which kinds are planted; all that fit the records where none is named.
        floor: the least share of a kind that must be caught (of near-misses, kept apart): one
            number, or a number by kind; below it the run ends with exit 65.
    """

    count: Count = 50
    kinds: Sequence[str] = ()
    floor: Ratio | Mapping[str, Ratio] | None = None


Redactable = Literal["email", "phone", "card", "iban", "ip", "key", "token", "private_key"]
MARKED_BY: Mapping[str, Sequence[Redactable]] = {
    "pii": ("email", "phone", "card", "iban", "ip"),
    "secrets": ("key", "token", "private_key"),
}
"""Which method marks which kinds; [export] redact reads the `spans` of its namesake."""


@dataclass(frozen=True, kw_only=True)
class ExportSection:
    """[export]: where the shards go and what they look like.

    Attributes:
        path: a folder for the versions, relative to the recipe; in the store where not given.
        format: what is written: tars, Parquet, JSON lines, or the list of uids alone.
        shard_records: records a shard.
        layout: "append" keeps the shards of the version before and adds new ones; "packed" writes
            all anew, as a first export would.
        columns: further columns for each record's JSON, such as "semantic.max_cosine".
        image: of pictures, "keep": the bytes as they came; "strip": without metadata, the same
            pixels; "jpeg": encoded anew; "png8": as they came, but those of 16 bits a channel as
            PNG of 8 bits, as the methods see them.
        max_side_px: larger pictures become smaller, and their label images with them; as JPEG,
            with "png8" as PNG.
        text: SQL of the text that leaves with a record, of shards and of what trainings read alike:
            "recap.text" of captions that one brings by file, or "coalesce(recap.text, text)".
        redact: what `pii` and `secrets` mark of these kinds is replaced, in the text alone, by its
            kind in brackets, such as [email]; the data card counts it.
        seed: of the order in which records are written, and of the exported random arm.
        arms: which sets are exported: the kept records, a random set of equal size, all records.
    """

    path: str | None = None
    format: Sequence[Format] = ("webdataset",)
    shard_records: Count = 10_000
    layout: Literal["append", "packed"] = "append"
    columns: Sequence[str] = ()
    image: Literal["keep", "strip", "jpeg", "png8"] = "keep"
    max_side_px: Count | None = None
    text: str = "text"
    redact: Sequence[Redactable] = ()
    seed: Seed = 0
    arms: Sequence[Literal["recipe", "random", "all"]] = ("recipe",)

    @property
    def redacted_by(self) -> list[str]:
        """The methods that mark what is redacted."""
        return [name for name, kinds in MARKED_BY.items() if set(kinds) & set(self.redact)]


@dataclass(frozen=True, kw_only=True)
class StreamSection:
    """[pretrain.streams.<name>]: records that have rows of their own in every batch.

    Attributes:
        where: SQL; records for which it is true are of the stream. One may be of several.
        batch: records a step; those of all streams make the batch.
    """

    where: str
    batch: Count


@dataclass(frozen=True, kw_only=True)
class PretrainSection:
    """[pretrain]: the training of every arm; the objective's own parameters stand here too.

    Attributes:
        objective: a file of pretraining/objectives, or a reference to a class of one's own.
        encoder: the encoder of the objective's first role, a file of pretraining/encoders or a
            reference. A section gives it parameters, as [pretrain.<role>] does for any role:
            `name`, the encoder's own, of which a table is named "fit.<alias>", `weights` to begin
            with, "recipe:boot.toml", "run:boot@3" or "file:x.safetensors", and `frozen`. An
            encoder of [embed] has its vectors computed once.
        continue_from: a training of the same objective and encoders that goes on here with its
            weights and its optimizer, "recipe:first.toml", "run:web@7" or "file:x.safetensors",
            the state that a run kept. A constant rate goes on; other schedules begin anew.
        columns: further columns that the objective reads, each with an expression over notes.
        draws: an expression over notes that gives each record a weight: an epoch draws it in
            proportion; 1 is the mean, and of 0 it is never drawn.
        groups: an expression over notes: the rows of a batch that belong together are records for
            which it is the same. Smaller groups are passed over.
        members: how many rows of a batch are of one group; the whole batch where not given. A
            group, by its `position`, is cut into as many runs, and each gives a row.
        streams: sections of records that have rows of their own in every batch.
        steps: optimizer steps; [compare] may set another number for the comparison.
        batch: records a step; with streams, those of all of them.
        lr: the learning rate after the warm-up.
        schedule: how the rate goes on after the warm-up: half a cosine to nothing; constant; such
            cosines one after the other; constant, then down at the end; a cosine to a constant
            rate, that rate, and an anneal at the end.
        warmup_ratio: the share of the steps, with "repeated_cosine" of each cycle, in which the
            rate rises from zero.
        cycles: how many cosines "repeated_cosine" has; it needs this.
        decay_ratio: the share of the steps, at the end, in which the rate falls, with
            "warmup_stable_decay" or "infinite"; 0.2 where not given.
        cooldown_ratio: the share of the steps after the warm-up in which the rate falls to the
            constant one, with "infinite"; 0.15 where not given.
        constant_rate_ratio: the constant rate of "infinite" as a share of `lr`; 0.4 where not
            given.
        end_rate_ratio: the last rate of "infinite" as a share of `lr`; 0.01 where not given.
        weight_decay: of matrices; biases, norms and temperatures do not decay.
        weight_decay_end: the weight decay goes to it on half a cosine; it stays where not given.
        optimizer: AdamW, or SGD with a momentum of 0.9.
        clip_norm: gradients are scaled down to this norm, that of all weights together; they stay
            as they are where not given.
        accumulate: so many equal parts of a batch, one after the other, make one step; it needs
            less memory. Negatives and batch norms then see one part, so that clip, simclr and
            small_cnn learn something else than from the whole batch.
        freeze: beginnings of names of weights that are not trained, such as "image_encoder"; the
            norms of a part that is named whole keep their statistics too.
        lr_multipliers: by such a beginning, what the rate of the weights is multiplied by; of
            several the longest holds.
        layer_decay: each layer has this share of the rate of the layer above it; for encoders of
            blocks, as vit is.
        precision: of products and convolutions; weights, losses and the optimizer stay in float32.
            Where not given bfloat16 on CUDA, else float32.
        validation_ratio: the share of the records, drawn by uid, that no training trains on, for
            probes; of the training pool, whatever is held out.
        probe_every: so many steps are between probes, the loss on these records, in the log. They
            change no weight.
        seed: of the initial weights, the order and the augmentation; a comparison counts up
            from it.
        own: the objective's parameters, and the sections of its roles.
    """

    objective: str
    encoder: Mapping[str, Any] | str | None = None
    continue_from: Mapping[str, Any] | str | None = None
    columns: Mapping[str, str] | None = None
    draws: str | None = None
    groups: str | None = None
    members: Annotated[int, Field(ge=2)] | None = None
    streams: Mapping[str, Any] | None = None
    steps: Count = 1000
    batch: Count = 128
    lr: Positive = 1e-3
    schedule: Literal[
        "cosine", "constant", "repeated_cosine", "warmup_stable_decay", "infinite"
    ] = "cosine"
    warmup_ratio: Ratio = 0.1
    cycles: Annotated[int, Field(ge=2)] | None = None
    decay_ratio: Share | None = None
    cooldown_ratio: Share | None = None
    constant_rate_ratio: Share | None = None
    end_rate_ratio: Share | None = None
    weight_decay: NotNegative = 0.1
    weight_decay_end: NotNegative | None = None
    optimizer: Literal["adamw", "sgd"] = "adamw"
    clip_norm: Positive | None = None
    accumulate: Count | None = None
    freeze: Sequence[str] | None = None
    lr_multipliers: Mapping[str, Positive] | None = None
    layer_decay: Share | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    validation_ratio: Share | None = None
    probe_every: Count | None = None
    seed: Seed = 0
    own: Mapping[str, Any]

    def bound(self) -> dict[str, str]:
        """Return the expressions that a training reads the values of, by the column's name."""
        vectors = [
            str(section["of"])
            for section in (self.encoder, *self.own.values())
            if isinstance(section, Mapping) and section.get("name") == VECTOR and "of" in section
        ]
        return {**(self.columns or {}), **{of: of for of in vectors}}

    def orders(self) -> dict[str, str]:
        """Return the expressions that compose batches, by their key."""
        named = {"draws": self.draws, "groups": self.groups}
        found = {key: text for key, text in named.items() if text is not None}
        return found | {f"streams.{n}.where": of.where for n, of in (self.streams or {}).items()}

    def fits(self) -> dict[str, str]:
        """Return the fits whose tables encoders are made with, `fit.<alias>`, by their key."""
        return {
            f"pretrain.{role}.{key}": value
            for role, section in {"encoder": self.encoder, **self.own}.items()
            if isinstance(section, Mapping)
            for key, value in section.items()
            if is_fit(value)
        }


def is_fit(value: Any) -> bool:
    """Whether a parameter of an encoder is the table of a fit, given by its name."""
    return isinstance(value, str) and value.startswith("fit.")


VECTOR = "vector"
"""The file of pretraining/encoders whose vectors are notes."""


@dataclass(frozen=True, kw_only=True)
class CompareSection:
    """[compare]: what is claimed, by which arms, and over how many trainings.

    Attributes:
        metric: the metric that answers, as `<name>.<metric>`; the first of the first [[evaluate]]
            where not given.
        worth: the smallest difference that matters; 0.01 for shares, 1 % of random's mean else.
            Values that all lie from 0 to 1 are taken for shares.
        arms: "recipe", the kept records; "random", sets of equal size; "stratified", as many
            draws, the same number of every stratum; "all", all records but the hold-out;
            "untrained", the initial weights; "recipe:other.toml", what another recipe keeps of this
            pool and hold-out.
        claim: "set": the kept set lies outside of what random sets of equal size reach. "rule":
            the recipe, applied to another version, does: disjoint parts of the pool, each cut by
            the recipe.
        seeds: trainings of each arm but the random one, with "set".
        random_sets: random sets with "set", each with a training of its own; two at least for an
            answer.
        parts: disjoint parts with "rule"; each arm is trained once in each.
        steps: optimizer steps of each training; those of [pretrain] where not given.
        grid: "one": the rate of [pretrain] and these steps. "full": that rate, a third and a tenth
            of it, each with the steps, twice and four times as many; whatever the schedule of
            [pretrain], the rate is constant after the warm-up and falls linearly over the last
            fifth. The answer is that of the largest budget at the rate which is best for random
            sets.
        stratify_by: SQL; gives each record its stratum, for the arm "stratified".
    """

    metric: str | None = None
    worth: Positive | None = None
    arms: Sequence[str] = ("recipe", "random", "all", "untrained")
    claim: Literal["set", "rule"] = "set"
    seeds: Count = 3
    random_sets: Count = 10
    parts: Annotated[int, Field(ge=2)] = 8
    steps: Count | None = None
    grid: Literal["one", "full"] = "one"
    stratify_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class EmbedSection:
    """[embed.<alias>]: vectors of an encoder, whose roles and parameters stand here too.

    Attributes:
        encoder: a file of embeddings, or a reference to a class of one's own; the alias where not
            given.
        only: SQL; a record for which it is false or null is not encoded and has no vector.
    """

    encoder: str | None = None
    only: str | None = None


@dataclass(frozen=True, kw_only=True)
class FileSection:
    """[embed.<alias>] or [annotate.<alias>] with `file`: values that one brings.

    Attributes:
        file: Parquet, CSV, JSON lines, npy, npz or safetensors, relative to the recipe.
        key: what a row is matched by: `uid`, `source_id`, `row` or `meta.<column>`.
        ids: a file with the keys of the rows, where the values' file has none.
    """

    file: str
    key: str = "uid"
    ids: str | None = None


@dataclass(frozen=True, kw_only=True)
class AnnotateSection:
    """[annotate.<alias>]: a measurement, whose roles, tables and parameters stand here too.

    Attributes:
        step: a file of curation/annotate, or a reference to a function of one's own; the alias
            where not given.
        only: SQL; a record for which it is false or null is not measured and has nulls.
    """

    step: str | None = None
    only: str | None = None


@dataclass(frozen=True, kw_only=True)
class FitSection:
    """[fit.<alias>]: a model of the pool, whose roles and parameters stand here too.

    Attributes:
        step: a file of curation/fit, or a reference to a function of one's own; the alias where
            not given.
        only: SQL; a record for which it is false or null takes no part.
        sample: how many records are drawn to fit on; what the method needs where not given.
    """

    step: str | None = None
    only: str | None = None
    sample: Count | None = None


@dataclass(frozen=True, kw_only=True)
class SelectSection:
    """One [[select]]: a rule; of a selector its roles, tables and parameters stand here too.

    Attributes:
        name: what the funnel and `winnow why` call it; the condition, or the selector, where not
            given.
        where: SQL; a record for which it is false or null is dropped. A rule has this or `by`.
        by: a file of curation/select, or a reference to a function of one's own.
        of_pool: whether `budget_ratio` is a share of the pool without the hold-out, not of the
            candidates.
    """

    name: str | None = None
    where: str | None = None
    by: str | None = None
    of_pool: bool = False


@dataclass(frozen=True)
class Rule:
    """One [[select]]: a condition over columns, or a selector.

    Attributes:
        key: its place in the recipe, `select[2]`.
        where: the condition; None for a selector.
        by: the selector's name or reference.
        section: the selector's other keys.
    """

    name: str
    key: str
    where: Expression | None = None
    by: str | None = None
    section: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A recipe as written, its fixed sections parsed; `flows.recipe.planner` resolves its methods.

    Attributes:
        name: of its runs; the file's where not given.
        pool: the pool that sources are read into and records are taken from; `name` where not
            given.
        recipe_dir: the folder of the file, to which its paths are relative.
        raw: the TOML after `--set`, for the record.
        problems: what is wrong with the fixed sections; `flows.recipe.planner` adds what it finds
            and raises all of it at once.
    """

    name: str
    pool: str
    recipe_dir: Path
    raw: Mapping[str, Any]
    sources: tuple[SourceSection, ...] = ()
    guard: GuardSection | None = None
    holdout: HoldoutSection | None = None
    embed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    annotate: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fit: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    select: tuple[Rule, ...] = ()
    canaries: CanariesSection | None = None
    certificate: CertificateSection | None = None
    export: ExportSection | None = None
    pretrain: PretrainSection | None = None
    evaluate: tuple[Mapping[str, Any], ...] = ()
    compare: CompareSection | None = None
    problems: tuple[Problem, ...] = ()


SECTIONS = (
    "name", "pool", "source", "guard", "holdout", "embed", "annotate", "fit", "select", "canaries",
    "certificate", "export", "pretrain", "evaluate", "compare",
)  # fmt: skip


PACKAGED = Path(__file__).resolve().parents[2] / "recipes"


class Problems:
    """Collect what is wrong, so that a user sees all of it at once."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, key: str, message: str) -> None:
        """Note one problem."""
        self.found.append(Problem(key, message))

    @contextmanager
    def at(self, key: str = "") -> Iterator[None]:
        """Collect the ConfigErrors of a block, under a key where they carry none."""
        try:
            yield
        except ConfigError as error:
            self.found += [Problem(p.key or key, p.message) for p in error.problems]

    def raise_any(self) -> None:
        """Raise one ConfigError with everything collected."""
        if self.found:
            raise ConfigError(dict.fromkeys(self.found))


def read(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file.

    Args:
        path: the TOML file.
        overrides: `key.path=value` with a TOML value, as of `--set`.

    Raises:
        ConfigError: it is not there, is no TOML, or an override names no key.
    """
    if path.is_dir():
        inside = path / "winnow.toml"
        do = f"`winnow run {inside}`" if inside.is_file() else f"`winnow init {path}` writes one"
        raise ConfigError(f"{path}: is a folder, not a recipe: {do}.")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such recipe. `winnow init` writes one.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}{_data_advice(path)}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}{_data_advice(path)}") from None
    for override in overrides:
        _set(raw, override)
    return parsed(raw, recipe_dir=path.resolve().parent, name=path.stem)


def _data_advice(path: Path) -> str:
    """Return what to do with a path that looks like data."""
    return "" if path.suffix == ".toml" else f". If it is data, `winnow init {path}` writes one."


def parsed(raw: Mapping[str, Any], *, recipe_dir: Path, name: str) -> Recipe:
    """Return the recipe that a parsed TOML file means, with the problems found in it."""
    problems = Problems()
    for key in raw:
        if key not in SECTIONS:
            problems.add(key, f"unknown section.{nearest(key, SECTIONS)}")
    fields: dict[str, Any] = {"name": raw.get("name", name), "pool": raw.get("pool")}
    if fields["pool"] is None:
        fields["pool"] = fields["name"]
    for key in ("name", "pool"):
        with problems.at(key):
            if not isinstance(fields[key], str):
                raise ConfigError(f"is a text (got {fields[key]!r})")
            checked_name(fields[key], key)
    fields["sources"] = tuple(
        section
        for i, table in enumerate(_tables(raw, "source", problems))
        if (section := _section(SourceSection, table, f"source[{i}]", problems)) is not None
    )
    if "guard" in raw:
        fields["guard"] = _guard(raw["guard"], problems)
    singles: dict[str, Any] = {
        "holdout": HoldoutSection, "canaries": CanariesSection,
        "certificate": CertificateSection, "export": ExportSection, "compare": CompareSection,
    }  # fmt: skip
    for key, kind in singles.items():
        if key in raw:
            fields[key] = _section(kind, raw[key], key, problems)
    if "pretrain" in raw:
        fields["pretrain"], teachers = _pretrain(raw, problems)
    for key in ("embed", "annotate", "fit"):
        section = raw.get(key, {})
        if not isinstance(section, Mapping) or not all(
            isinstance(v, Mapping) for v in section.values()
        ):
            problems.add(key, f"is a table of sections, such as [{key}.some_name]")
            section = {}
        for alias in section:
            if "." in alias or alias == "meta":
                problems.add(f"{key}.{alias}", "an alias has no dot and is not 'meta'")
        fields[key] = section
    if "pretrain" in raw:
        fields["embed"] = {**fields["embed"], **teachers}
    fields["select"] = _rules(raw, problems)
    fields["evaluate"] = tuple(_tables(raw, "evaluate", problems))
    for i, table in enumerate(fields["evaluate"]):
        if "protocol" not in table:
            problems.add(f"evaluate[{i}].protocol", "is required.")
    fields["holdout"] = _checked(fields.get("holdout"), problems)
    return Recipe(recipe_dir=recipe_dir, raw=raw, problems=tuple(problems.found), **fields)


def _guard(table: Any, problems: Problems) -> GuardSection | None:
    if isinstance(table, Mapping) and "groups" in table:
        groups = _section(GroupsSection, table["groups"], "guard.groups", problems)
        table = {**table, "groups": groups}
    found: GuardSection | None = _section(GuardSection, table, "guard", problems)
    return found


def _pretrain(
    raw: Mapping[str, Any], problems: Problems
) -> tuple[PretrainSection | None, dict[str, Mapping[str, Any]]]:
    """Return [pretrain], and the [embed] sections of roles that are encoders of `embeddings`."""
    table = raw["pretrain"] if isinstance(raw["pretrain"], Mapping) else {}
    teachers: dict[str, Mapping[str, Any]] = {}
    for role, section in table.items():
        if isinstance(section, Mapping) and section.get("name") in names("embeddings"):
            if role in raw.get("embed", {}):
                problems.add(f"pretrain.{role}", f"[embed.{role}] has its name: rename that one.")
            rest = {k: v for k, v in section.items() if k not in ("name", "of", "frozen")}
            teachers[role] = {"encoder": section["name"], **rest}
            vectors = {"name": VECTOR, "of": section.get("of", f"{role}.vector")}
            table = {**table, role: vectors}
    if "streams" in table:
        table = _with_streams(table, problems)
    fixed = {k: v for k, v in table.items() if k in names_of(PretrainSection) and k != "own"}
    own = {k: v for k, v in table.items() if k not in fixed}
    found = _section(PretrainSection, {**fixed, "own": own}, "pretrain", problems)
    return found, teachers


def _with_streams(table: Mapping[str, Any], problems: Problems) -> Mapping[str, Any]:
    """Return [pretrain] with its streams parsed, and the batch that they make."""
    given = table["streams"] if isinstance(table["streams"], Mapping) else {}
    found = {
        name: _section(StreamSection, of, f"pretrain.streams.{name}", problems)
        for name, of in given.items()
    }
    streams = {name: of for name, of in found.items() if of is not None}
    if len(given) < 2:
        problems.add("pretrain.streams", "are two or more sections, [pretrain.streams.<name>].")
    if len(streams) < len(given) or not given:
        return {key: value for key, value in table.items() if key != "streams"}
    batch = sum(of.batch for of in streams.values())
    if table.get("batch", batch) != batch:
        problems.add("pretrain.batch", f"is {batch}, that of all streams: leave it out.")
    return {**table, "streams": streams, "batch": batch}


def _rules(raw: Mapping[str, Any], problems: Problems) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    names = {"holdout"}
    for i, table in enumerate(_tables(raw, "select", problems)):
        key = f"select[{i}]"
        where, by = table.get("where"), table.get("by")
        if (where is None) == (by is None):
            both = "" if by is None else f", and {_rule_name(table)!r} has both"
            problems.add(key, f"has either `where` or `by`{both}.")
            continue
        rest = {k: v for k, v in table.items() if k not in ("name", "where", "by")}
        name = _rule_name(table)
        if not isinstance(name, str) or not isinstance(where if by is None else by, str):
            problems.add(key, "`name`, `where` and `by` are texts.")
            continue
        if name in names:
            what = "is rule 0" if name == "holdout" else "is taken"
            problems.add(f"{key}.name", f"{name!r} {what}: give this rule another name.")
        names.add(name)
        if where is None:
            rules.append(Rule(name, key, by=by, section=rest))
            continue
        for unknown in rest:
            hint = nearest(unknown, ["name", "where", "by"])
            problems.add(f"{key}.{unknown}", f"unknown key beside `where`.{hint}")
        with problems.at(f"{key}.where"):
            _ = Expression(where).clauses
            rules.append(Rule(name, key, Expression(where)))
    return tuple(rules)


def _checked(section: HoldoutSection | None, problems: Problems) -> HoldoutSection | None:
    if section is None:
        return None
    if section.pool is not None:
        if section.where or section.by_group or section.ratio:
            problems.add("holdout.pool", "another pool needs no where, by_group or ratio.")
    elif section.where is None and section.ratio is None:
        problems.add("holdout", "give `where`, `pool`, or `ratio`.")
    if section.where is not None:
        try:
            _ = Expression(section.where).paths
        except ConfigError as error:
            problems.add("holdout.where", str(error))
            return replace(section, where=None)
    return section


def _section(kind: Any, table: Any, where: str, problems: Problems) -> Any:
    if not isinstance(table, Mapping):
        problems.add(where, f"is a section, [{where}].")
        return None
    try:
        return kind(**parse(kind, table, where=where))
    except ConfigError as error:
        problems.found += error.problems
    # The rest is kept, so that what it names is looked at too.
    wrong = {p.key.removeprefix(f"{where}.").partition(".")[0] for p in problems.found}
    with suppress(ConfigError):
        return kind(**parse(kind, {k: v for k, v in table.items() if k not in wrong}, where=where))
    return None


def _tables(raw: Mapping[str, Any], key: str, problems: Problems) -> list[Mapping[str, Any]]:
    value = raw.get(key, [])
    if isinstance(value, list) and all(isinstance(v, Mapping) for v in value):
        return value
    problems.add(key, f"is a list of sections: write [[{key}]].")
    return []


def _set(raw: dict[str, Any], override: str) -> None:
    """Apply one `a.b=value`; a section of a list is named by its number or its name."""
    given = re.fullmatch(rf"\s*((?:{_STEP})(?:\.(?:{_STEP}))*)=(.*)", override, re.DOTALL)
    if given is None:
        raise ConfigError(f"--set {override}: write key=value.")
    path, text = given[1].strip(), given[2]
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = [step.strip().strip('"') for step in re.findall(_STEP, path)]
    here: Any = raw
    if parents and parents[0] not in SECTIONS and parents[0] in _called(raw.get("select")):
        raise ConfigError(f"--set {path}: is a rule: write select.{path}.")
    for step in parents:
        if isinstance(here, list):
            items = _called(here)
            at = int(step) if step.isdigit() else items.index(step) if step in items else len(here)
            if at >= len(here):
                raise ConfigError(f"--set {path}: there is no item {step}.{nearest(step, items)}")
            here = here[at]
        elif isinstance(here, dict):
            here = here.setdefault(step, {})
    if not isinstance(here, dict):
        raise ConfigError(f"--set {path}: {'.'.join(parents)} is no section.")
    here[last] = value


# A step of a path: a name, or one in quotes that has dots, such as `select."width > 200".where`.
_STEP = r'"[^"]*"|[^."=]+'


def _called(items: Any) -> list[str]:
    """Return what the sections of a list are called; those of [[evaluate]] after their protocol."""
    tables = [item for item in items or () if isinstance(item, Mapping)]
    return [str(item.get("name", item.get("protocol", _rule_name(item)))) for item in tables]


def _rule_name(table: Mapping[str, Any]) -> Any:
    """Return a rule's name, else its condition, else its selector with its first text."""
    where, by = table.get("where"), table.get("by")
    rest = (v for k, v in table.items() if k not in ("name", "where", "by"))
    first = next((value for value in rest if isinstance(value, str)), "")
    return table.get("name", where if by is None else f"{by}({first})" if first else by)
