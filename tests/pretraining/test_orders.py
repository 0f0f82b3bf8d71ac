"""Batches by weight, by group and of streams, beside naive loops."""

from math import floor

import numpy as np
import pytest
import torch

from contracts.errors import ConfigError, DataError
from contracts.uid import mix, random_bits, uniform
from pretraining import ranks
from pretraining.batches import batches, uids_of
from pretraining.codecs import ImageCodec
from pretraining.orders import Composition, drawn, grouped, order
from tests.pretraining.test_batches import Shards

UIDS = [11, 22, 33, 44, 55, 66, 77, 88, 99, 110, 121, 132]
REPEATS = [1, 2, 1, 0, 1, 1, 3, 1, 1, 1, 1, 2]
WEIGHTS = np.array([0.1, 3.0, 0.0, 9.0, 1.0, 0.5, 0.25, 7.0, 2.0, 1.0, 1.0, 0.3])
GROUPS = np.array([5, 9, 5, 9, 9, 5, 9, 2, 5, 9, 5, 2], dtype=np.uint64)
POSITIONS = np.array([3, 0, 1, 0, 2, 0, 1, 0, 2, 0, 0, 0])
FIRST = np.isin(UIDS, UIDS[:4])
COMPOSITIONS = {
    "plain": None,
    "draws": Composition(weights=WEIGHTS),
    "groups": Composition(groups=GROUPS, positions=POSITIONS, members=2),
    "streams": Composition(streams={"few": (FIRST, 2), "all": (np.ones(12, dtype=bool), 4)}),
}


def copies():
    return [(uid, copy) for uid, n in zip(UIDS, REPEATS, strict=True) for copy in range(n)]


def bits(uid, copy, seed, name):
    mixed = mix(np.array([uid], dtype=np.uint64)) + np.uint64(copy)
    return int(random_bits(mixed, seed, name)[0])


def seen(composition, *, shards=None, start=0, steps=9, batch=6, **given):
    made = batches(
        shards or Shards(UIDS, REPEATS), composition, codecs={"image": ImageCodec(4)}, batch=batch,
        seed=7, start=start, steps=steps, **given,
    )  # fmt: skip
    return [(b["image"][:, 0, 0, 0].tolist(), b.get("stream")) for b in made]


def uids_seen(composition, **given):
    return [uids for uids, _ in seen(composition, **given)]


def test_an_epoch_by_weight_is_that_of_a_loop_over_records():
    share = dict(zip(UIDS, WEIGHTS, strict=True))
    mean = sum(share[uid] for uid, _ in copies()) / len(copies())
    expected = []
    for epoch in range(4):
        counts = dict.fromkeys(UIDS, 0)
        for uid, copy in copies():
            mixed = mix(np.array([uid], dtype=np.uint64)) + np.uint64(copy)
            counts[uid] += floor(share[uid] / mean + uniform(mixed, 7, f"draws {epoch}")[0])
        of_epoch = [(uid, copy) for uid, n in counts.items() for copy in range(n)]
        of_epoch.sort(key=lambda one: bits(*one, 7, f"epoch {epoch}"))
        expected += [uid for uid, _ in of_epoch]
    found = [uid for batch in uids_seen(COMPOSITIONS["draws"]) for uid in batch]
    assert found[: len(expected)] == expected[: len(found)]
    assert 33 not in found
    assert 44 not in found


def test_records_are_drawn_in_proportion():
    uids, once = np.arange(6, dtype=np.uint64), np.ones(6, dtype=np.uint16)
    weights = np.array([1.0, 2.0, 3.0, 0.5, 0.25, 0.0])
    counts = sum(drawn(uids, once, weights, 0, epoch) for epoch in range(2000))
    assert counts / counts.sum() == pytest.approx(weights / weights.sum(), abs=0.01)


def test_equal_weights_compose_the_batches_of_none():
    assert uids_seen(Composition(weights=np.full(12, 0.1))) == uids_seen(None)


def of_groups(members, epoch):
    """Return the draws of an epoch by a loop over groups, each a list of uids."""
    units = []
    for group in set(GROUPS.tolist()):
        inside = [
            (POSITIONS[UIDS.index(uid)], uid, copy)
            for uid, copy in copies()
            if GROUPS[UIDS.index(uid)] == group
        ]
        runs = [[] for _ in range(members)]
        for i, (_, uid, copy) in enumerate(sorted(inside)):
            runs[i * members // len(inside)].append((bits(uid, copy, 7, f"epoch {epoch}"), uid))
        for i in range(len(inside) // members):
            units.append([sorted(run)[i] for run in runs])
    units.sort(key=lambda unit: unit[0])
    return [[uid for _, uid in unit] for unit in units]


@pytest.mark.parametrize("members", [2, 3, 6])
def test_batches_of_groups_are_those_of_a_loop_over_groups(members):
    found = uids_seen(Composition(groups=GROUPS, positions=POSITIONS, members=members))
    expected = [unit for epoch in range(20) for unit in of_groups(members, epoch)]
    together = [b[i : i + members] for b in found for i in range(0, 6, members)]
    assert together == expected[: len(together)]
    if members == 6:  # The whole batch, which is what is meant where no number is given.
        assert uids_seen(Composition(groups=GROUPS, positions=POSITIONS)) == found


def test_an_epoch_draws_no_record_of_a_group_twice_and_passes_over_small_groups():
    uids, repeats = np.array(UIDS, dtype=np.uint64), np.ones(12, dtype=np.uint16)
    for epoch in range(5):
        rows = grouped(uids, repeats, GROUPS, POSITIONS, 5, 0, epoch)
        assert len(set(rows.tolist())) == len(rows) == 10
        assert set(GROUPS[rows[:5]].tolist()) != set(GROUPS[rows[5:]].tolist())
        assert 2 not in GROUPS[rows]


def test_each_stream_has_its_rows_and_an_order_of_its_own():
    uids, repeats = np.array(UIDS, dtype=np.uint64), np.array(REPEATS, dtype=np.uint16)
    ends = {
        name: [
            int(uids[row])
            for epoch in range(12)
            for row in order(uids, repeats * mask, 7, epoch, name)
        ]
        for name, (mask, _) in COMPOSITIONS["streams"].streams.items()
    }
    for step, (found, stream) in enumerate(seen(COMPOSITIONS["streams"])):
        assert found[:2] == ends["few"][2 * step :][:2]
        assert found[2:] == ends["all"][4 * step :][:4]
        assert stream.tolist() == [0, 0, 1, 1, 1, 1]
    same = Composition(streams={name: (np.ones(12, dtype=bool), 3) for name in ("a", "b")})
    assert any(found[:3] != found[3:] for found in uids_seen(same))


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_any_step_is_reached_without_those_before_it_and_the_order_of_shards_is_of_no_account(name):
    whole = uids_seen(COMPOSITIONS[name])
    for start in (1, 4, 8):
        assert uids_seen(COMPOSITIONS[name], start=start) == whole[start:]
    shards = Shards(UIDS, REPEATS)
    for step in range(9):
        uids = uids_of(shards, COMPOSITIONS[name], batch=6, seed=7, step=step)
        assert uids.tolist() == whole[step]
    moved = np.random.default_rng(0).permutation(12)
    of = COMPOSITIONS[name] or Composition()
    turned = Composition(
        *(None if x is None else x[moved] for x in (of.weights, of.groups, of.positions)),
        of.members, {n: (mask[moved], rows) for n, (mask, rows) in of.streams.items()},
    )  # fmt: skip
    shards = Shards(np.array(UIDS)[moved], np.array(REPEATS)[moved].tolist())
    assert uids_seen(turned, shards=shards) == whole


@pytest.mark.parametrize("name", COMPOSITIONS)
@pytest.mark.parametrize("parts", [1, 2])
def test_each_rank_has_its_rows_of_every_part_and_of_every_stream(name, parts, monkeypatch):
    rows = 12 if parts == 2 else 6
    of = COMPOSITIONS[name]
    if name == "streams":
        streams = {n: (m, r * rows // 6) for n, (m, r) in of.streams.items()}
        of = Composition(streams=streams)
    whole = uids_seen(of, batch=rows)
    monkeypatch.setattr(ranks, "count", lambda: 2)
    of_ranks = []
    for rank in range(2):
        monkeypatch.setattr(ranks, "own", lambda rank=rank: rank)
        of_ranks.append(seen(of, batch=rows, parts=parts))
    shards = Shards(UIDS, REPEATS)
    for step, expected in enumerate(whole):
        mine = [np.array(of_rank[step][0]).reshape(parts, -1) for of_rank in of_ranks]
        kept = uids_of(shards, of, batch=rows, seed=7, step=step, parts=parts)
        assert kept.tolist() == np.stack(mine, 1).ravel().tolist()
        assert sorted(kept.tolist()) == sorted(expected)
        if name == "streams":
            stream = of_ranks[0][step][1].reshape(parts, -1)
            assert torch.equal(stream[0], torch.tensor([0, 1, 1]))
            few = [rows for of_rank in mine for rows in of_rank[:, 0]]
            assert sorted(few) == sorted(expected[: 2 * parts])
        else:
            assert kept.tolist() == expected


@pytest.mark.parametrize(
    ("composition", "error", "said"),
    [
        (Composition(weights=np.zeros(12)), DataError, "pretrain.draws: is 0 for every record"),
        (
            Composition(groups=GROUPS, positions=POSITIONS, members=16),
            DataError,
            "pretrain.groups: no group has 16 records",
        ),
        (
            Composition(groups=GROUPS, positions=POSITIONS, members=5),
            ConfigError,
            "pretrain.members: 16 records are no multiple",
        ),
        (
            Composition(streams={"a": (np.zeros(12, dtype=bool), 8), "b": (FIRST, 8)}),
            DataError,
            "pretrain.streams.a.where: is true for none of the 12 records",
        ),
        (
            Composition(streams={"a": (FIRST, 7), "b": (FIRST, 9)}),
            ConfigError,
            "pretrain.streams.a.batch: 7 records are not 2 equal parts",
        ),
    ],
)
def test_what_no_batch_can_be_composed_of_is_said_with_its_key(composition, error, said):
    with pytest.raises(error, match=said):
        seen(composition, batch=16, parts=2)
