"""Make the tables of a plan, each found where it was made before."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
import polars as pl

from contracts.errors import ConfigError, DataError
from contracts.payload import KINDS
from flows.measure import buckets, keys
from flows.measure.encoders import encoder, scorer
from flows.measure.from_files import match
from flows.measure.keys import inputs_of, mask_hash, packed
from flows.measure.targets import Targets, pool_of, pools_of
from flows.measure.tasks import Task, Work, WrittenNotes, join, measure, pieces
from flows.pool_reader import Mask, PoolReader
from flows.recipe.expressions import Expression
from flows.recipe.plan import Node, Plan
from flows.reporter import Count, ProgressBar, no_bar
from flows.workers import Workers
from storage import files, tables
from storage.commit import failpoint
from storage.store import Manifest, Object, key_of


@dataclass(kw_only=True)
class Runtime(PoolReader):
    """The tables of one plan over one pool version: found, or made, and then read as notes.

    Attributes:
        gates: whether `only` is heeded (not for a target pool).
        counts: by table, what was found and what was computed.
        bar: wraps long work, described and with its number of rows; gives what advances it.
        on_count: called with a table's name and its counts before it is computed; of a file after.
        dry: count what would be found and computed, and compute nothing.
        mixed: let a table hold parts of several numerics classes.
        refit_alias: the alias of a fit to make again, pinned or not.
    """

    plan: Plan
    workers: Workers = field(default_factory=Workers)
    gates: bool = True
    device: str | None = None
    on_count: Callable[[str, Count], None] = lambda _table, _count: None
    bar: ProgressBar = no_bar
    dry: bool = False
    mixed: bool = False
    refit_alias: str | None = None
    counts: dict[str, Count] = field(default_factory=dict)
    models: dict[str, Object] = field(default_factory=dict)
    made_by: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = self.plan.columns
        self._targets = Targets(
            store=self.store,
            pool=self.pool.name,
            recipe_dir=self.plan.recipe.recipe_dir,
            models=self.models,
            measure=self._measured,
        )

    def make(self, wanted: Sequence[str] | None = None) -> None:
        """Make the wanted tables, all of the plan's where none are named, and what they need."""
        needed = self._closure(wanted)
        sorter = TopologicalSorter(
            {t: self.plan.needs(self.plan.nodes[t]) & needed for t in needed}
        )
        sorter.prepare()
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=list(self.plan.nodes).index)
            todo = [self.plan.nodes[t] for t in ready if t not in self.notes | self.models]
            if self.dry:
                todo = [node for node in todo if self._can_look_up(node)]
            rowwise = [n for n in todo if n.kind in ("rowwise", "embed")]
            # What is wide is read once for all of them.
            of_content = [n for n in rowwise if set(n.paths) & {*KINDS, "payload", "text"}]
            if of_content:
                self._rowwise(of_content)
            for node in todo:
                if node in of_content:
                    continue
                make = {
                    "rowwise": lambda n: self._rowwise([n]),
                    "embed": lambda n: self._rowwise([n]),
                    "groupwise": self._groupwise,
                    "poolwise": self._poolwise,
                    "fit": self._fit,
                    "file": self._file,
                }[node.kind]
                make(node)
            sorter.done(*ready)

    def _can_look_up(self, node: Node) -> bool:
        """Whether what a node is found by is there; else count its rows as to be computed."""
        needed = self.plan.needs(node)
        if node.kind == "fit":
            # Its pin rests on other fits alone.
            kinds = {table: self.plan.nodes[table].kind for table in self._closure(needed)}
            needed = {table for table, kind in kinds.items() if kind == "fit"}
        known = all(table in self.notes or table in self.models for table in needed)
        known = known and not self.lacks_pool(node)
        if not known:
            rows = int(sum(mask.sum() for mask in self.live))
            self.counts[node.table] = Count(computed=1 if node.kind == "fit" else rows)
        return known

    def lacks_pool(self, node: Node) -> bool:
        """Whether a node reads a pool that is not there, or not yet."""
        return any(pool_of(self.store, reference) is None for reference in pools_of([node]))

    def arguments(self, node: Node) -> list[Any]:
        """Return a node's further tables and scorers, in order."""
        step = node.step
        loaded = [self._targets.load(node, name) for name in step.tables]
        return [*loaded, *[scorer(node, slot, self.device) for slot in step.slots]]

    def fingerprint_of(self, node: Node) -> dict[str, Any]:
        """Return what a node's content depends on, apart from the pool's rows."""
        digests = {name: self._targets.digest(node, name) for name in node.tables}
        asked_anew = self.store.versions("embed", self.embed_generation_ref(node))
        generation = asked_anew[-1] if asked_anew else None
        return keys.fingerprint_of(node, digests, self.device, generation)

    def workers_for(self, *nodes: Node) -> Workers:
        """Return where nodes are measured: a notebook's function is in this process alone."""
        ours = any(node.method is not None and node.method.given is not None for node in nodes)
        return Workers() if ours else self.workers

    def _closure(self, wanted: Collection[str] | None) -> set[str]:
        todo = list(self.plan.nodes if wanted is None else wanted)
        needed: set[str] = set()
        while todo:
            table = todo.pop()
            if table not in needed:
                needed.add(table)
                todo += self.plan.needs(self.plan.nodes[table])
        return needed

    def _gate(self, node: Node, part: int) -> Mask | None:
        if node.gate is None or not self.gates:
            return None
        return self.mask(node.gate, part)

    def embed_generation_ref(self, node: Node) -> str:
        """Return the ref whose versions count how often an embedding was asked for anew."""
        return f"{self.pool.name}.{node.alias}"

    def _check_numerics(self, node: Node, found: Sequence[Manifest | None]) -> None:
        """Refuse to add parts of one numerics class to a table of another.

        Raises:
            ConfigError: unless mixed classes are asked for.
        """
        theirs = {m.recorded["numerics"] for m in found if m is not None}
        if self.mixed or node.kind != "embed" or None not in found:
            return
        mine = encoder(node, self.device).numerics
        if theirs - {mine}:
            raise ConfigError(
                f"{node.table}: its vectors were made with {' and '.join(sorted(theirs))}, this "
                f"machine makes {mine}; they are not equal bit for bit. Run on the machine type "
                f"that it began on, measure all anew (winnow refit {node.alias}), or take both "
                "(--mixed)."
            )

    def _rowwise(self, nodes: list[Node]) -> None:
        """Make rowwise tables part by part; what is missing of a part is made in one pass."""
        fingerprints = {node.table: self.fingerprint_of(node) for node in nodes}
        found: dict[str, list[Manifest | None]] = {node.table: [] for node in nodes}
        tasks: list[tuple[int, Task, list[tuple[Node, dict[str, Any]]]]] = []
        for index, part in enumerate(self.pool.parts):
            missing: list[tuple[Node, dict[str, Any]]] = []
            work: list[Work] = []
            for node in nodes:
                gate = self._gate(node, index)
                made_by = {
                    **fingerprints[node.table],
                    "rows": mask_hash(gate),
                    "inputs": inputs_of(self, node, index),
                }
                manifest = self.store.find(key_of(made_by))
                found[node.table].append(manifest)
                count = self.counts.setdefault(node.table, Count())
                rows = int(
                    self.live[index].sum() if gate is None else (gate & self.live[index]).sum()
                )
                if manifest is not None:
                    count.found += rows
                    continue
                count.computed += rows
                if self.dry:
                    continue
                missing.append((node, made_by))
                bound = tuple((name, self._targets.place(node, name)) for name in node.tables)
                work.append(Work(node, bound, None if gate is None else packed(gate)))
            if missing:
                paths = [p for node, _ in missing for p in node.paths]
                notes = self.notes_at(index, paths)
                task = Task(
                    root=self.store.root,
                    pool=self.pool.name,
                    part=part,
                    notes=notes,
                    work=tuple(work),
                    device=self.device,
                )
                tasks.append((index, task, missing))
        for node in nodes:
            self.on_count(node.table, self.counts.setdefault(node.table, Count()))
        if self.dry:
            nodes = [node for node in nodes if None not in found[node.table]]
        for node in nodes:
            self._check_numerics(node, found[node.table])
        cut = [(index, task, pieces(task), missing) for index, task, missing in tasks]
        results: Iterator[Any] = self.workers_for(*nodes).map(
            measure, (p for _, _, cuts, _ in cut for p in cuts)
        )
        names = ", ".join(node.table for node in nodes)
        rows = sum(task.part.rows for _, task, _, _ in cut)
        with self.bar(f"measuring {names}", rows) as advance:
            for index, task, cuts, missing in cut:
                measured = []
                for piece in cuts:
                    measured.append(next(results))
                    first, last = piece.piece or (0, task.part.rows)
                    advance(last - first)
                whole = cuts[0].piece is None
                made: WrittenNotes = measured[0] if whole else join(task, measured)
                for (node, made_by), (item, recorded) in zip(missing, made, strict=True):
                    found[node.table][index] = self._publish(made_by, [item], recorded)
                    failpoint("runtime.part")
        for node in nodes:
            manifests = [m for m in found[node.table] if m is not None]
            self.notes[node.table] = tuple(m.parts[0] for m in manifests)
            self.made_by[node.table] = [m.key for m in manifests]

    def _whole(self, node: Node) -> tuple[dict[str, Any], list[Mask]]:
        """Return what a table over all parts is made by, and which rows it may look at."""
        masks = []
        for index, visible in enumerate(self.visible):
            gate = self._gate(node, index)
            masks.append(visible if gate is None else visible & gate)
        made_by = {
            **self.fingerprint_of(node),
            "rows": [mask_hash(mask) for mask in masks],
            "inputs": [inputs_of(self, node, index) for index in range(len(masks))],
        }
        return made_by, masks

    def _poolwise(self, node: Node) -> None:
        def compute(masks: list[Mask]) -> pl.DataFrame:
            rows = self.roles(node.roles, masks)
            return node.step(rows, *self.arguments(node))

        self._aligned(node, compute)

    def _groupwise(self, node: Node) -> None:
        def compute(masks: list[Mask]) -> pl.DataFrame:
            tasks = [self._task(i, node, mask) for i, mask in enumerate(masks) if mask.any()]
            uids = self.frame([], masks)["uid"]
            arguments, workers = self.arguments(node), self.workers_for(node)
            if self._within_parts(node, masks):
                return buckets.run_within_parts(node, tasks, uids, arguments, workers)
            key = key_of(self.fingerprint_of(node))
            folder = self.store.temporary / f"buckets-{key[:16]}"
            return buckets.run(node, tasks, uids, arguments, workers, folder)

        self._aligned(node, compute)

    def _task(self, part: int, node: Node, mask: Mask) -> Task:
        """Return the reading of a part's rows, payload too, as a node's only work."""
        return Task(
            root=self.store.root,
            pool=self.pool.name,
            part=self.pool.parts[part],
            notes=self.notes_at(part, node.paths),
            work=(Work(node, (), packed(mask)),),
            device=self.device,
        )

    def _within_parts(self, node: Node, masks: Sequence[Mask]) -> bool:
        """Whether a node's groups are series that each lie in one part."""
        by = node.step.by
        if by is None or node.roles[by].text.strip() != "series":
            return False
        series = pl.Series([], dtype=pl.String)
        for part in range(len(masks)):
            own = self.frame(["series"], masks, part)["series"].unique()
            series = series.append(own.cast(pl.String).drop_nulls())
        return series.n_unique() == len(series)

    def _aligned(
        self,
        node: Node,
        compute: Callable[[list[Mask]], pl.DataFrame],
        recorded: Mapping[str, Any] | None = None,
    ) -> Manifest | None:
        """Find a table over all rows, or compute it and cut it along the pool's parts."""
        made_by, masks = self._whole(node)
        manifest = self.store.find(key_of(made_by))
        rows = int(sum(mask.sum() for mask in masks))
        count = self.counts.setdefault(node.table, Count())
        if manifest is not None:
            count.found += rows
        else:
            count.computed += rows
        if node.kind != "file":
            self.on_count(node.table, count)
        if manifest is None:
            if self.dry:
                return None
            found = compute(masks)
            parts = []
            for part in self.pool.parts:
                uids = tables.read(self.store, part.records, ["uid"])
                cut = uids.join(found, on="uid", how="left", maintain_order="left")
                parts.append(
                    tables.put(
                        self.store, cut, pool=self.pool.name, table=node.table, part=part.name
                    )
                )
            manifest = self._publish(made_by, parts, {"numerics": "cpu", **(recorded or {})})
            failpoint("runtime.table")
        self.notes[node.table] = manifest.parts
        self.made_by[node.table] = [manifest.key]
        return manifest

    def _fit(self, node: Node) -> None:
        """Find the model that is pinned for this derivation, or fit it and pin it.

        Raises:
            DataError: a pinned model is lost that was made on another version: this one's would be
                another model.
        """
        name = f"{self.pool.name}.{node.alias}.{self._pin_key(node)[:16]}"
        pinned = None if node.alias == self.refit_alias else self.store.ref("fit", name)
        manifest = self.store.find(pinned["manifest"]) if pinned is not None else None
        if pinned is not None and manifest is None and pinned["made_on"] != self.pool.version:
            raise DataError(
                f"{self.store.lost(pinned['manifest'])}: is lost or cut: of {node.table}, which is "
                f"pinned to what was made on version {pinned['made_on']}. Put back a copy, or make "
                f"it again: winnow run RECIPE --at {pinned['made_on']} --until annotate. Or fit "
                f"anew on the pool as it is: winnow refit {node.alias} RECIPE"
            )
        count = self.counts.setdefault(node.table, Count())
        if manifest is not None:
            count.found += 1
        else:
            count.computed += 1
        self.on_count(node.table, count)
        if manifest is None:
            if self.dry:
                return
            made_by, masks = self._whole(node)
            manifest = self.store.find(key_of(made_by))
            if manifest is None:
                model = self._fitted(node, masks)
                item = tables.put(
                    self.store, model, pool=self.pool.name, table=node.table, part="model"
                )
                manifest = self._publish(made_by, [item], {"numerics": "cpu"})
            version = len(self.store.versions("fit", name)) + 1
            content = {
                "manifest": manifest.key,
                "pool": self.pool.name,
                "made_on": self.pool.version,
            }
            self.store.create_ref("fit", name, version, {**content, "version": version})
            failpoint("runtime.fit")
        self.models[node.table] = manifest.parts[0]
        self.made_by[node.table] = [manifest.key]

    def _fitted(self, node: Node, masks: list[Mask]) -> pl.DataFrame:
        step = node.step
        arguments = self.arguments(node)
        if step.merge is not None:
            models = [
                step(self.roles(node.roles, masks, part), *arguments)
                for part in range(len(self.pool.parts))
            ]
            return step.fold(models) if models else step(self.roles(node.roles, masks), *arguments)
        uids = self.frame([], masks)["uid"]
        drawn, step = step.drawn(uids, node.sample)
        narrowed = self.where(uids.filter(drawn))
        return step.model(self.roles(node.roles, narrowed), *arguments)

    def _pin_key(self, node: Node) -> str:
        needs: dict[str, Any] = {}
        for table in sorted(self.plan.needs(node)):
            other = self.plan.nodes[table]
            needs[table] = self._fit_key(table) if other.kind == "fit" else self._pin_key(other)
        return keys.pin_key(
            node, self.fingerprint_of(node), needs, self.pool.name, self.plan.recipe.holdout
        )

    def _fit_key(self, table: str) -> list[str]:
        manifests = [(key, self.store.find(key)) for key in self.made_by[table]]
        return [key if manifest is None else manifest.pinned_as for key, manifest in manifests]

    def _file(self, node: Node) -> None:
        """Bring values of one's own beside the pool, matched by uid, source id or a meta column."""
        assert node.file is not None
        recorded: dict[str, int] = {}

        def compute(masks: list[Mask]) -> pl.DataFrame:
            column = node.key.removeprefix("meta.")
            brought = files.load(node.file, ids=node.ids, key=column)  # type: ignore[arg-type]
            everyone = [np.ones(len(mask), dtype=bool) for mask in masks]
            mine = self.frame([] if node.key in ("uid", "row") else [node.key], everyone)
            if node.key == "row":
                mine = mine.with_row_index("row")
                if "row" not in brought.columns:
                    brought = brought.with_row_index("row")
            mine = mine.filter(pl.Series(np.concatenate(self.live)))
            # A list of ids is called source_id, whatever it is matched by.
            if node.ids is not None and node.key != "row":
                column = "source_id"
            values = brought.select(pl.col(column).alias(node.key), *node.writes)
            found = match(mine, values, node.key, node.file)  # type: ignore[arg-type]
            recorded["without"], recorded["unused"] = found.without, found.unused
            return found.rows

        manifest = self._aligned(node, compute, recorded)
        count = self.counts[node.table]
        if manifest is None:
            return
        count.without = manifest.recorded["without"]
        count.unused = manifest.recorded["unused"]
        self.on_count(node.table, count)

    def _measured(self, pool: tables.Pool, roles: Mapping[str, Expression]) -> pl.DataFrame:
        """Return another pool's `uid` and roles, measured as this one's; it has no gates."""
        target = Runtime(
            self.store,
            pool,
            plan=self.plan,
            workers=self.workers,
            gates=False,
            device=self.device,
            dry=self.dry,
            models=dict(self.models),
            made_by=dict(self.made_by),
        )
        paths = [p for e in roles.values() for p in e.paths]
        target.make([self.plan.columns[p] for p in paths if p in self.plan.columns])
        return target.roles(roles, target.live)

    def _publish(
        self, made_by: dict[str, Any], parts: list[Object], recorded: Mapping[str, Any]
    ) -> Manifest:
        versions = {name: importlib.metadata.version(name) for name in ("polars", "numpy")}
        return self.store.publish_manifest(made_by, parts, {**versions, **recorded})
