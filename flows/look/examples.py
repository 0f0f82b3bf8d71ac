"""Records of a run as cards: examples of what each rule did, and the largest clusters."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from contracts.uid import hex_uid, uniform
from flows.look.preview import preview
from flows.look.views import RunView
from flows.recipe.expressions import Expression
from storage import tables

EXAMPLES = 12
CLUSTERS, MEMBERS = 6, 8
STREAM = "report"
THUMBNAIL_PX = 224
CAPTION_CHARACTERS, VALUE_CHARACTERS = 400, 200


def clipped(text: str, most: int = VALUE_CHARACTERS) -> str:
    """Return a text cut to so many characters, the last of them a mark where it was cut."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def distinct(value: str | None) -> str:
    """Return a value as a label, no two alike: a null is (null), never a text.

    A text that is empty, begins with a bracket or a quotation mark, or has white space at an end
    is quoted as in JSON.
    """
    if value is None:
        return "(null)"
    plain = value == value.strip() and value[:1] not in ("", "(", '"')
    return value if plain else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class Card:
    """One record.

    Attributes:
        source: source name and source id.
        picture: a JPEG in base64, see `flows.look.preview`.
        values: the columns that its rule looked at.
        note: why it is here.
        twin: the record that was kept in its place.
    """

    uid: str
    source: str
    caption: str | None
    picture: str | None
    values: tuple[tuple[str, str], ...]
    note: str
    twin: Card | None = None


@dataclass(frozen=True)
class Group:
    """Examples of what one rule dropped; of what was kept where `rule` is None."""

    rule: str | None
    records: int
    cards: tuple[Card, ...]


def examples(run: RunView, types: Mapping[str, Any]) -> list[Group]:
    """Return examples of each rule that dropped something, in order, then of the kept."""
    funnel = run.funnel().filter(pl.col("clause").is_null() & (pl.col("dropped") > 0))
    records: dict[str | None, int] = dict(funnel.select("rule", "dropped").iter_rows())
    records[None] = run.result["kept"]
    drawn = {rule: _drawn(run, rule) for rule in records}
    gallery = _Gallery(run, types, drawn)
    return [
        Group(rule, records[rule], tuple(gallery.card(rule, row) for row in rows.to_dicts()))
        for rule, rows in drawn.items()
    ]


class _Gallery:
    """Everything that is shown of the drawn records and their twins, read in one pass."""

    def __init__(
        self, run: RunView, types: Mapping[str, Any], drawn: Mapping[str | None, pl.DataFrame]
    ) -> None:
        self._types = types
        self._by = {rule.name: node.paths for rule, node in run.plan.rules if node is not None}
        uids: set[int] = set()
        paths = dict.fromkeys(("source", "source_id", "text"))
        for rule, rows in drawn.items():
            uids |= set(rows["uid"]) | set(rows["twin"].drop_nulls())
            for clause in rows["clause"].unique(maintain_order=True):
                paths |= dict.fromkeys(self._columns(rule, clause))
        self._records = _records(run, uids, list(paths))
        fates = run.verdict.filter(_among(uids)).select("uid", "dropped_by")
        self._fates: dict[int, str | None] = dict(fates.iter_rows())
        self._pictures = _pictures(run, uids)

    def card(self, rule: str | None, row: Mapping[str, Any]) -> Card:
        columns = self._columns(rule, row["clause"])
        if row["twin"] is None:
            return self._card(row["uid"], columns, row["clause"] or "")
        fate = self._fates[row["twin"]]
        stands = "kept in its place" + (f", later dropped by {fate}" if fate else "")
        distance = "" if row["distance"] is None else f", distance {row['distance']:.4g}"
        twin = self._card(row["twin"], columns, stands)
        return self._card(row["uid"], columns, f"dropped: {row['edge']}{distance}", twin)

    def _card(self, uid: int, columns: Sequence[str], note: str, twin: Card | None = None) -> Card:
        record = self._records[uid]
        return Card(
            hex_uid(uid),
            f"{record['source']}:{record['source_id']}",
            record["text"] and clipped(record["text"], CAPTION_CHARACTERS),
            self._pictures.get(uid),
            tuple((c, _value(record[c], self._types[c])) for c in columns if c != "text"),
            note,
            twin,
        )

    def _columns(self, rule: str | None, clause: str | None) -> list[str]:
        """Return the scalar columns by which a record was dropped."""
        named = self._by.get(rule or "", ()) if clause is None else Expression(clause).paths
        types = self._types
        return [c for c in named if not (types[c].is_nested() or types[c] == pl.Binary)]


def _pictures(run: RunView, uids: Collection[int]) -> dict[int, str]:
    """Return small JPEGs in base64, by uid."""
    found = run.pool.payloads(sorted(uids))
    return {
        uid: base64.b64encode(preview(found.columns[1], data, side_px=THUMBNAIL_PX)).decode()
        for uid, data in found.iter_rows()
        if data is not None
    }


@dataclass(frozen=True)
class Cluster:
    """One cluster: its size, and the first of its records by uid."""

    size: int
    cards: tuple[Card, ...]


def clusters(run: RunView) -> dict[str, list[Cluster]]:
    """Return the largest clusters of each annotation that makes some, by its alias."""
    found: dict[str, list[Cluster]] = {}
    for node in run.plan.nodes.values():
        name = f"{node.alias}.cluster"
        if {"cluster", "size"} <= set(node.writes) and node.table in run.runtime.notes:
            frame = run.runtime.frame([name, f"{node.alias}.size"])
            frame = frame.rename({name: "cluster", f"{node.alias}.size": "size"})
            large = _largest(run, frame.filter(pl.col("size") > 1))
            if large:
                found[node.alias] = large
    return found


def _largest(run: RunView, rows: pl.DataFrame) -> list[Cluster]:
    names = rows.unique("cluster").sort(["size", "cluster"], descending=[True, False])
    names = names.head(CLUSTERS)
    members = rows.filter(pl.col("cluster").is_in(names["cluster"].implode())).sort("uid")
    shown = members.group_by("cluster", maintain_order=True).head(MEMBERS)
    uids = shown["uid"].to_list()
    records = _records(run, uids, ["source", "source_id", "text"])
    pictures = _pictures(run, uids)
    fates = dict(run.verdict.filter(_among(uids)).select("uid", "dropped_by").iter_rows())
    of: dict[int, list[Card]] = {}
    for uid, cluster in shown.select("uid", "cluster").iter_rows():
        record, fate = records[uid], fates[uid]
        card = Card(
            hex_uid(uid),
            f"{record['source']}:{record['source_id']}",
            record["text"] and clipped(record["text"], CAPTION_CHARACTERS),
            pictures.get(uid),
            (),
            "kept" if fate is None else f"dropped by {fate}",
        )
        of.setdefault(cluster, []).append(card)
    return [Cluster(size, tuple(of[name])) for name, size in names.select("cluster", "size").rows()]


def _drawn(run: RunView, rule: str | None) -> pl.DataFrame:
    """Draw a rule's examples: those with a twin before others, and each clause in its turn."""
    rows = run.verdict.filter(pl.col("dropped_by").eq_missing(pl.lit(rule, dtype=pl.String)))
    twins = pl.DataFrame(schema={"uid": pl.UInt64, "twin": pl.UInt64, "edge": pl.String,
                                 "distance": pl.Float64})  # fmt: skip
    evidence = None if rule is None else run.evidence(rule)
    if evidence is not None and "twin" in evidence.columns:
        twins = evidence.select(twins.columns)
    rows = rows.join(twins, on="uid", how="left", maintain_order="left")
    draws = pl.Series("draw", uniform(rows["uid"].to_numpy(), 0, STREAM))
    rows = rows.with_columns(draws).sort("draw", "uid")
    rows = rows.with_columns(turn=pl.int_range(pl.len()).over("clause"))
    return rows.sort(pl.col("twin").is_null(), "turn", "clause").head(EXAMPLES)


def _among(uids: Collection[int]) -> pl.Expr:
    return pl.col("uid").is_in(pl.Series(sorted(uids), dtype=pl.UInt64).implode())


def _records(
    run: RunView, uids: Collection[int], paths: Sequence[str]
) -> dict[int, dict[str, Any]]:
    """Return the columns of some records, by uid."""
    rows = run.runtime.frame(paths, run.runtime.where(list(uids)))
    return {row["uid"]: row for row in rows.iter_rows(named=True)}


def types_of(run: RunView) -> dict[str, Any]:
    """Return the type of every column of the pool and of the rules, from the files' footers."""
    runtime = run.runtime
    found: dict[str, Any] = {}
    for index, part in enumerate(runtime.pool.parts):
        for name, dtype in tables.part_schema(runtime.store, part).items():
            found.setdefault(name, dtype)
        unknown = [path for path in runtime.plan.columns if path not in found]
        for path, (item, column) in runtime.notes_at(index, unknown).items():
            # What an older version of a method measured lacks the columns that came since.
            if (dtype := tables.schema(runtime.store, item).get(column)) is not None:
                found[path] = dtype
    return found


def _value(value: Any, dtype: Any) -> str:
    if value is None or isinstance(value, str):
        return clipped(distinct(value))
    if dtype == pl.UInt64:
        return hex_uid(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else clipped(str(value))
