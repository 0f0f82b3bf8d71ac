"""Canaries: planted duplicates, near-misses and corrupt files that say whether rules still work.

A shadow pool, `<pool>.canaries`, holds drawn records beside a changed copy of each. It goes
through the same annotations and rules, with the run's own fits; the pool, its tables, its counts
and its budgets never see it.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from contracts import decode, encode
from contracts.errors import ConfigError, DataError, nearest
from contracts.uid import hex_uid, uid_of, uniform
from flows.ingest import quarantine
from flows.ingest.ingest import SourceSpec, ingest
from flows.measure.runtime import Runtime
from flows.pool_reader import SHADOW
from flows.recipe.plan import Node, Plan
from flows.recipe.sections import CanariesSection, Rule
from flows.select.verdict import Verdict, judge
from storage import tables
from storage.source import Found, PassedOver, Record, Unit
from storage.store import key_of

SOURCE = "canaries"
STREAM = "canaries"
VERSION = 1
"""Raised when a copy is made in another way: the shadow pool then takes the new ones."""
NEAR_MISS, CORRUPT = "near_miss", "corrupt"


@dataclass(frozen=True)
class Planted:
    """What is planted: a record, another one, and how a copy is made of them.

    Attributes:
        row: the drawn record's columns; `image` where it has one.
        other: the next drawn record, for what is half of one and half of the other.
    """

    kind: str
    row: Mapping[str, Any]
    other: Mapping[str, Any]


def _pixels(planted: Planted) -> Image.Image:
    return Image.fromarray(decode.image(planted.row["image"]))


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def _half_scale(planted: Planted) -> bytes:
    data = planted.row["image"]
    height, width, _ = decode.image(data).shape
    return encode.jpeg(data, max_side_px=max(1, max(height, width) // 2))


def _crop(planted: Planted) -> bytes:
    picture = _pixels(planted)
    right, down = round(picture.width * 0.05), round(picture.height * 0.05)
    return _jpeg(picture.crop((right, down, picture.width - right, picture.height - down)))


def _spliced(planted: Planted) -> bytes:
    picture = _pixels(planted)
    other = Image.fromarray(decode.image(planted.other["image"])).resize(picture.size)
    left = picture.width // 2
    picture.paste(other.crop((left, 0, *picture.size)), (left, 0))
    return _jpeg(picture)


IMAGES: Mapping[str, Callable[[Planted], bytes]] = {
    "copy": lambda planted: planted.row["image"],
    "reencode": lambda planted: encode.jpeg(planted.row["image"], quality=75),
    "scale": _half_scale,
    "crop": _crop,
    "grey": lambda planted: _jpeg(_pixels(planted).convert("L").convert("RGB")),
    NEAR_MISS: _spliced,
    CORRUPT: lambda planted: planted.row["image"][: len(planted.row["image"]) * 3 // 5],
}
"""Copies of pictures; a crop takes 5 % from each side, a near-miss is half of another record."""


def _edited(planted: Planted) -> str:
    """Replace one word in twenty, one at least, by one of the other text's."""
    words = planted.row["text"].split()
    given = planted.other["text"].split()
    own = np.array([planted.row["uid"]], dtype=np.uint64)
    for n in range(max(1, len(words) // 20)):
        draw = float(uniform(own, n, STREAM)[0])
        words[int(draw * len(words))] = given[int(draw * len(given))]
    return " ".join(words)


def _half(planted: Planted) -> str:
    words, given = planted.row["text"].split(), planted.other["text"].split()
    return " ".join(words[: len(words) // 2] + given[len(given) // 2 :])


TEXTS: Mapping[str, Callable[[Planted], str]] = {
    "copy": lambda planted: planted.row["text"],
    "edit": _edited,
    NEAR_MISS: _half,
}
"""Copies of texts, where records have no picture."""


class _Shadow:
    """The drawn records and their copies, as a source of one unit."""

    def __init__(self, runtime: Runtime, planted: Sequence[Planted], found: Found) -> None:
        self._runtime, self._planted, self._found = runtime, planted, found
        self.passed_over = PassedOver()

    def units(self) -> Iterator[Unit]:
        drawn = [[p.kind, p.row["uid"], p.row["digest"].hex()] for p in self._planted]
        yield Unit("drawn", self._found.root, 0, key_of({"version": VERSION, "drawn": drawn}))

    def records(self, _unit: Unit) -> Iterator[Record]:
        images = _images(self._runtime, self._planted)
        for one in self._planted:
            row, other = ({**r, "image": images.get(r["uid"])} for r in (one.row, one.other))
            planted = replace(one, row=row, other=other)
            yield _record(planted, "original", row)
            column = "image" if _has_picture(row) else "text"
            made = _copies(row)[planted.kind](planted)
            yield _record(planted, planted.kind, {**row, column: made})


def _record(planted: Planted, what: str, row: Mapping[str, Any]) -> Record:
    return Record(
        _id(planted, what),
        f"{planted.row['source']}:{planted.row['source_id']} ({what})",
        image=row.get("image"),
        text=row.get("text"),
        texts=row.get("texts"),
        series=row.get("series"),
        position=row.get("position"),
        licence=row.get("licence"),
        meta=dict(row.get("meta") or {}),
    )


def _id(planted: Planted, what: str) -> str:
    return f"{hex_uid(planted.row['uid'])}/{what}"


def _copies(row: Mapping[str, Any]) -> Mapping[str, Callable[[Planted], Any]]:
    return IMAGES if _has_picture(row) else TEXTS


def _has_picture(row: Mapping[str, Any]) -> bool:
    return row.get("width") is not None


def check(section: CanariesSection, plan: Plan) -> None:
    """Check what can be checked before anything is read.

    Raises:
        ConfigError: an unknown kind, or no rule that relates records.
    """
    known = sorted({*IMAGES, *TEXTS})
    floors = section.floor if isinstance(section.floor, Mapping) else {}
    for kind in (*section.kinds, *floors):
        if kind not in known:
            raise ConfigError(f"{kind!r} is no kind of canary.{nearest(kind, known)}")
    if not _relating(plan):
        raise ConfigError(
            "needs a rule that relates records, such as one_per_cluster or "
            "one_per_neighbourhood: nothing else finds duplicates."
        )


def plant(runtime: Runtime, section: CanariesSection) -> dict[str, dict[str, Any]]:
    """Plant the canaries of a run, put them through its rules and say what became of them.

    A planted pair is caught where the rules that relate records leave one record for both; it is
    untested where another rule drops one of it.

    Returns:
        For each kind `planted`, `untested` and, of duplicates, `caught` and `recall`; of
        `near_miss` `merged` and `false_merge_ratio`; of `corrupt` `quarantined` (by code) and
        `recall`. Shares are null where nothing was tested.

    Raises:
        DataError: a share is below the floor, or the pool is too small to plant anything.
    """
    planted = _drawn(runtime, section)
    if not planted:
        raise DataError("canaries: no record of the pool can be copied in these kinds.")
    name = runtime.pool.name + SHADOW
    spec = SourceSpec(
        Found(runtime.store.root, [], SOURCE), SOURCE, payload="copy", kind=SOURCE, update=True,
        max_quarantined_ratio=1.0,
    )  # fmt: skip
    ingest(runtime.store, name, spec, source=_Shadow(runtime, planted, spec.found))
    pool = tables.load_pool(runtime.store, name)
    assert pool is not None
    verdict = _judged(runtime, pool)
    found = _counted(planted, verdict, _quarantined(runtime, pool))
    low = [
        f"{kind} {share:.3f} (floor {floor})"
        for kind, of in found.items()
        if (floor := _floor(section, kind)) is not None
        and (share := _share(of)) is not None
        and share < floor
    ]
    if low:
        raise DataError(
            f"canaries below their floor: {', '.join(low)}. Planted copies are in the pool {name}: "
            f"winnow show {name}. No version was made."
        )
    return found


def lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what became of the canaries, a line a kind."""
    said = []
    for kind, of in found.items():
        share = _share(of)
        what = "kept apart" if kind == NEAR_MISS else "caught"
        done = "nothing tested" if share is None else f"{share:.1%} {what}"
        untested = f", {of['untested']} untested" if of["untested"] else ""
        said.append(f"  canaries, {kind}: {of['planted']} planted, {done}{untested}")
    return said


def _drawn(runtime: Runtime, section: CanariesSection) -> list[Planted]:
    """Draw records and give each a kind, in turn."""
    everyone = runtime.frame([], runtime.visible)["uid"]
    draws = pl.Series("draw", uniform(everyone.to_numpy(), 0, STREAM))
    order = pl.DataFrame({"uid": everyone, "draw": draws}).sort("draw", "uid")["uid"]
    # Twice as many as the kinds of both modalities need: some records have nothing to change.
    rows = _rows(runtime, order.head(2 * section.count * len(IMAGES)))
    fit = [row for uid in order.head(len(rows)) if (row := rows.get(uid)) and _content(row)]
    planted: list[Planted] = []
    often: Counter[str] = Counter()
    for row, other in zip(fit, fit[1:] + fit[:1], strict=True):
        kinds = [k for k in section.kinds or _copies(row) if k in _copies(row)]
        kinds = [k for k in kinds if often[k] < section.count]
        same = _has_picture(row) == _has_picture(other)
        if kinds and same and row["uid"] != other["uid"]:
            kind = min(kinds, key=lambda k: often[k])
            often[kind] += 1
            planted.append(Planted(kind, row, other))
    return planted


def _content(row: Mapping[str, Any]) -> bool:
    return _has_picture(row) or len((row.get("text") or "").split()) > 1


def _rows(runtime: Runtime, uids: pl.Series) -> dict[int, dict[str, Any]]:
    """Return the columns of some records, by uid."""
    rows: dict[int, dict[str, Any]] = {}
    for part, mask in zip(runtime.pool.parts, runtime.where(uids), strict=True):
        if mask.any():
            chosen = tables.read(runtime.store, part.records).filter(mask)
            rows |= {row["uid"]: row for row in chosen.iter_rows(named=True)}
    return rows


def _images(runtime: Runtime, planted: Sequence[Planted]) -> dict[int, bytes]:
    """Return the pictures of what is planted, by uid."""
    uids = [row["uid"] for p in planted for row in (p.row, p.other)]
    images: dict[int, bytes] = {}
    for group in runtime.pictures(uids):
        images |= dict(group.select("uid", "image").iter_rows())
    return images


def _relating(plan: Plan) -> tuple[tuple[Rule, Node | None], ...]:
    """Return the rules up to the last that relates records, without budgets and draws."""
    relating = [n is not None and n.step.explain is not None for _, n in plan.rules]
    if not any(relating):
        return ()
    end = len(relating) - relating[::-1].index(True)
    return tuple(
        (rule, node)
        for (rule, node), relates in zip(plan.rules[:end], relating, strict=False)
        if relates or rule.where is not None
    )


def _judged(runtime: Runtime, pool: tables.Pool) -> Verdict:
    """Measure the shadow pool with the run's own fits and apply the rules that find duplicates."""
    plan = replace(
        runtime.plan,
        recipe=replace(runtime.plan.recipe, holdout=None),
        rules=_relating(runtime.plan),
    )
    fits = {t: keys for t, keys in runtime.made_by.items() if t in runtime.models}
    shadow = Runtime(
        runtime.store,
        pool,
        plan=plan,
        workers=runtime.workers,
        device=runtime.device,
        mixed=runtime.mixed,
        models=dict(runtime.models),
        made_by=dict(fits),
    )
    bound = [rule.where if node is None else node for rule, node in plan.rules]
    paths = [path for one in bound if one is not None for path in one.paths]
    shadow.make([plan.columns[p] for p in paths if p in plan.columns])
    return judge(shadow)


def _quarantined(runtime: Runtime, pool: tables.Pool) -> dict[str, str]:
    rows = quarantine.listed(runtime.store, pool).drop_nulls("source_id")
    return dict(rows.select("source_id", "code").iter_rows())


def _counted(
    planted: Sequence[Planted], verdict: Verdict, quarantined: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    fates = dict(verdict.rows.select("uid", "dropped_by").iter_rows())
    twins: dict[int, int] = {}
    for evidence in verdict.evidence.values():
        twins |= dict(evidence.drop_nulls("twin").select("uid", "twin").iter_rows())

    def stands_for(uid: int) -> int:
        """Return the record that was kept for it, by each rule in turn; of one kept, itself."""
        while uid in twins:
            uid = twins[uid]
        return uid

    counts: dict[str, Counter[str]] = {p.kind: Counter() for p in planted}
    codes: Counter[str] = Counter()
    for p in planted:
        of = counts[p.kind]
        of["planted"] += 1
        if p.kind == CORRUPT:
            code = quarantined.get(_id(p, CORRUPT))
            of["caught"] += code is not None
            codes.update([code] if code else [])
            continue
        pair = [uid_of(SOURCE, _id(p, what)) for what in ("original", p.kind)]
        lost = [fates.get(uid) for uid in pair]
        if stands_for(pair[0]) == stands_for(pair[1]):
            of["caught"] += 1
        elif any(rule is not None and rule not in verdict.evidence for rule in lost):
            of["untested"] += 1
    found: dict[str, dict[str, Any]] = {}
    for kind, of in counts.items():
        tested = of["planted"] - of["untested"]
        share = of["caught"] / tested if tested else None
        base = {"planted": of["planted"], "untested": of["untested"]}
        if kind == NEAR_MISS:
            found[kind] = {**base, "merged": of["caught"], "false_merge_ratio": share}
        elif kind == CORRUPT:
            found[kind] = {**base, "quarantined": dict(sorted(codes.items())), "recall": share}
        else:
            found[kind] = {**base, "caught": of["caught"], "recall": share}
    return found


def _share(of: Mapping[str, Any]) -> float | None:
    """Return how well a kind did: recall, or the share of near-misses that stayed apart."""
    merged = of.get("false_merge_ratio")
    recall: float | None = of.get("recall")
    return recall if merged is None else 1 - merged


def _floor(section: CanariesSection, kind: str) -> float | None:
    if isinstance(section.floor, Mapping):
        return section.floor.get(kind)
    return section.floor
