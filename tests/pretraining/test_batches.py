import io
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from contracts.decode import square
from contracts.errors import ConfigError, DataError
from pretraining.batches import batches
from pretraining.codecs import ImageCodec
from pretraining.encoders.words import WordCodec, Words
from pretraining.objective import Column
from pretraining.orders import order


def png(colour, width=8, height=8):
    data = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(data, "PNG")
    return data.getvalue()


class Shards:
    """Records whose red is their uid and whose text names it; counts what is read."""

    def __init__(self, uids, repeats=None):
        self.uids = np.array(uids, dtype=np.uint64)
        self.repeats = np.array(repeats or [1] * len(uids), dtype=np.uint16)
        self.reads = Counter()

    def read(self, rows):
        uids = self.uids[rows].tolist()
        self.reads.update(uids)
        return {"image": [png((u, 0, 0)) for u in uids], "text": [f"uid {u}" for u in uids]}


def seen(shards, **changes):
    """Return the uids of each batch, as its images show them."""
    settings = {
        "codecs": {"image": ImageCodec(4)},
        "batch": 3,
        "seed": 0,
        "start": 0,
        "steps": 8,
        **changes,
    }
    return [b["image"][:, 0, 0, 0].tolist() for b in batches(shards, **settings)]


def test_an_epoch_draws_every_record_exactly_as_often_as_it_repeats():
    uids = np.arange(100, 106, dtype=np.uint64)
    repeats = np.array([1, 0, 3, 1, 2, 300], dtype=np.uint16)
    for epoch in range(3):
        counts = np.bincount(order(uids, repeats, 0, epoch), minlength=6)
        assert counts.tolist() == repeats.tolist()


def test_the_order_is_a_function_of_uid_copy_seed_and_epoch_only():
    uids = np.arange(40, dtype=np.uint64) * 977
    repeats = (np.arange(40) % 4).astype(np.uint16)
    first = uids[order(uids, repeats, 0, 0)]
    moved = np.random.default_rng(0).permutation(40)
    again = uids[moved][order(uids[moved], repeats[moved], 0, 0)]
    assert first.tolist() == again.tolist()
    assert first.tolist() != uids[order(uids, repeats, 0, 1)].tolist()
    assert first.tolist() != uids[order(uids, repeats, 1, 0)].tolist()


def test_the_order_is_this_one_for_ever():
    uids = np.array([11, 22, 33, 44], dtype=np.uint64)
    repeats = np.array([1, 2, 1, 1], dtype=np.uint16)
    drawn = [uids[order(uids, repeats, 7, epoch)].tolist() for epoch in (0, 1)]
    assert drawn == [[33, 11, 22, 44, 22], [33, 22, 11, 22, 44]]


def test_records_common_to_two_arms_come_in_one_order():
    uids = np.arange(50, dtype=np.uint64)
    once = np.ones(50, dtype=np.uint16)
    common = [u for u in order(uids, once, 3, 0) if u % 2]
    odd = uids[uids % 2 == 1]
    assert odd[order(odd, once[:25], 3, 0)].tolist() == common


def test_every_order_of_three_records_is_as_likely_as_another():
    uids, once = np.array([5, 6, 7], dtype=np.uint64), np.ones(3, dtype=np.uint16)
    counts = Counter(tuple(order(uids, once, 0, epoch)) for epoch in range(1200))
    assert len(counts) == 6
    assert all(140 < count < 260 for count in counts.values())


def test_batches_are_the_epochs_laid_end_to_end():
    shards = Shards([10, 20, 30, 40, 50], [1, 2, 1, 0, 1])
    drawn = [u for batch in seen(shards, steps=10) for u in batch]
    assert len(drawn) == 30
    for epoch in range(6):
        assert sorted(drawn[5 * epoch : 5 * epoch + 5]) == [10, 20, 20, 30, 50]
        expected = shards.uids[order(shards.uids, shards.repeats, 0, epoch)]
        assert drawn[5 * epoch : 5 * epoch + 5] == expected.tolist()


def test_a_batch_may_be_larger_than_an_epoch():
    [batch] = seen(Shards([10, 20]), batch=7, steps=1)
    assert Counter(batch[:6]) == {10: 3, 20: 3}
    assert len(batch) == 7


def test_any_step_is_reached_without_the_steps_before_it():
    shards = Shards(range(1, 8))
    whole = seen(shards)
    for start in (1, 2, 5, 8):
        assert seen(shards, start=start) == whole[start:]


def test_the_order_of_the_shards_changes_no_batch():
    assert seen(Shards([7, 1, 5, 3], [1, 2, 3, 4])) == seen(Shards([3, 5, 1, 7], [4, 3, 2, 1]))


@pytest.mark.parametrize("records_kept", [0, 3, 100])
def test_batches_are_the_same_whatever_is_kept_in_memory_and_kept_records_are_read_once(
    records_kept,
):
    shards = Shards(range(1, 11))
    drawn = seen(shards, cache_bytes=records_kept * 3 * 4 * 4, threads=1)
    assert drawn == seen(Shards(range(1, 11)), threads=3)
    once = sum(count == 1 for count in shards.reads.values())
    assert once == {0: 0, 3: 3, 100: 10}[records_kept]


def test_texts_become_the_tokens_of_their_record():
    words = Words(width=8, heads=2)
    made = batches(
        Shards([3, 9, 4]),
        codecs={"image": ImageCodec(4), "text": words.codec},
        batch=2,
        seed=0,
        start=0,
        steps=6,
    )
    for batch in made:
        uids = batch["image"][:, 0, 0, 0].tolist()
        assert batch["text"].tolist() == [words.codec.encode(f"uid {u}").tolist() for u in uids]


def test_the_middle_square_is_taken_and_averaged():
    pixels = np.zeros((4, 8, 3), dtype=np.uint8)
    pixels[:, :2] = pixels[:, 6:] = 255
    pixels[:2, 2:4] = (40, 80, 120)
    pixels[0, 2] = (80, 160, 240)
    small = square(pixels, 2)
    assert small[0, 0].tolist() == [50, 100, 150]
    assert small[0, 1].tolist() == small[1, 0].tolist() == small[1, 1].tolist() == [0, 0, 0]
    assert square(pixels, 7).shape == (7, 7, 3)


def test_an_image_that_cannot_be_decoded_stops_training_and_is_named():
    class Damaged(Shards):
        def read(self, rows):
            values = super().read(rows)
            return {**values, "image": [data[:30] for data in values["image"]]}

    with pytest.raises(DataError, match="record 0000000000000007 cannot be decoded"):
        seen(Damaged([7]))


def test_a_record_without_text_is_named():
    class Silent(Shards):
        def read(self, rows):
            return {"text": [None for _ in rows]}

    with pytest.raises(DataError, match="record 0000000000000007 has no text"):
        seen(Silent([7]), codecs={"text": WordCodec(8, 4)})


def test_a_value_of_another_shape_stops_training_and_is_not_spread_over_its_row():
    class Short(Shards):
        def read(self, rows):
            return {"column.x": [[1.0] for _ in rows]}

    with pytest.raises(DataError, match=r"record 0000000000000007: column.x has the shape \(1,\)"):
        seen(Short([7]), codecs={"x": Column("vector").codec("x", 3)})


def test_bound_values_are_columns_of_their_type():
    class Bound(Shards):
        def read(self, rows):
            uids = self.uids[rows].tolist()
            return {"column.a": uids, "column.b": [[u, -u] for u in uids]}

    codecs = {"a": Column("label").codec("a"), "b": Column("vector").codec("b", 2)}
    [batch] = batches(Bound([3, 5]), codecs=codecs, batch=2, seed=0, start=0, steps=1)
    assert (batch["a"].dtype, batch["b"].dtype) == (torch.int64, torch.float32)
    assert batch["b"].tolist() == [[u, -u] for u in batch["a"].tolist()]


def test_a_batch_without_columns_is_refused():
    with pytest.raises(ConfigError, match="without columns"):
        seen(Shards([1]), codecs={})


def test_an_export_without_records_is_refused():
    with pytest.raises(DataError, match="no record to train on"):
        seen(Shards([1, 2], [0, 0]))


def test_a_consumer_that_leaves_early_leaves_no_thread_behind():
    import threading

    before = threading.active_count()
    made = batches(
        Shards([1, 2]), codecs={"image": ImageCodec(4)}, batch=2, seed=0, start=0, steps=10**6
    )
    next(made)
    made.close()
    assert threading.active_count() == before
