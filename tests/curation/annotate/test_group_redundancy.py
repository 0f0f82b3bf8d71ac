from __future__ import annotations

import io
from typing import Any

import imagehash
import numpy as np
import polars as pl
import pytest
from PIL import Image

from contracts.errors import ConfigError, DataError
from curation.annotate.group_redundancy import group_redundancy, threshold_table
from curation.properties import check

MEASURES = ("ssim", "mutual_information", "embedding", "every_nth")


def table(values: list[Any], role: str = "bits", dtype: Any = pl.UInt64, **more: Any):
    """One group, in the given order; uids fall, so that no order is that of the uids."""
    count = len(values)
    return pl.DataFrame(
        {
            "uid": pl.Series(range(100 + count, 100, -1), dtype=pl.UInt64),
            "group": ["volume"] * count,
            "order": range(count),
            role: pl.Series(values, dtype=dtype),
        }
        | more
    )


def exemplars(frame: pl.DataFrame, **parameters: Any) -> list[int]:
    """The places of the exemplars, of rows in order."""
    found = group_redundancy(frame, **parameters)
    return (found["uid"] == found["cluster"]).arg_true().to_list()


def greedy(bits: list[int], threshold: int) -> list[int]:
    """Take the first remaining, delete all within the threshold of it, repeat."""
    remaining, kept = list(range(len(bits))), []
    while remaining:
        first = remaining[0]
        kept.append(first)
        remaining = [i for i in remaining if (bits[first] ^ bits[i]).bit_count() > threshold]
    return kept


def slices(seed: int = 0, count: int = 24, jump: int = 6) -> list[int]:
    """Hashes that drift by some bits from one to the next."""
    rng = np.random.default_rng(seed)
    word, found = int(rng.integers(0, 2**63)), []
    for _ in range(count):
        found.append(word)
        for bit in rng.integers(0, 64, rng.integers(0, jump)):
            word ^= 1 << int(bit)
    return found


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


# ------------------------------------------------------------------ worked examples


def test_the_first_in_order_stays_and_covers_what_is_within_the_threshold():
    a, b, c, d = 0b0, 0b1, 0b11, 0b1111
    assert exemplars(table([a, b, c, d]), threshold=1) == [0, 2, 3]
    assert exemplars(table([b, a, c, d]), threshold=1) == [0, 3]


def test_a_record_near_to_a_covered_one_alone_stays():
    a, b, c = 0, 0b111111, 0b1111111
    found = group_redundancy(table([a, b, c]))
    assert found.rows() == [
        (103, 103, 2, 102, 1 - 6 / 64, 6),
        (102, 103, 2, 103, 1 - 6 / 64, 6),
        (101, 101, 1, None, None, None),
    ]


def test_a_laxer_threshold_may_keep_more_so_all_are_tried():
    frame = table([0b0, 0b111, 0b11111, 0b1100111])
    assert exemplars(frame, threshold=2) == [0, 1]
    assert exemplars(frame, threshold=3) == [0, 2, 3]
    counts = threshold_table(frame).filter(pl.col("threshold") < 6)["kept"].to_list()
    assert counts == [4, 4, 2, 3, 2, 1]
    assert exemplars(frame, target_ratio=0.75) == [0, 2, 3]
    assert exemplars(frame, target_ratio=0.5) == [0, 1]


def test_of_equally_close_counts_the_threshold_that_covers_least_is_taken():
    # 4 and 2 records are as far from 0.75 of 4: thresholds 0 and 1, and 2.
    even = table([0, 0b11, 2**63 - 1, (2**63 - 1) ^ 0b11])
    assert threshold_table(even)["kept"].to_list()[:3] == [4, 4, 2]
    assert exemplars(even, target_ratio=0.75) == [0, 1, 2, 3]


def test_every_nth_keeps_the_first_and_each_nth_after_it():
    frame = table(list(range(10)))
    assert exemplars(frame, measure="every_nth", threshold=4) == [0, 4, 8]
    assert exemplars(frame, measure="every_nth", threshold=1) == list(range(10))
    assert exemplars(frame, measure="every_nth", target_ratio=0.35) == [0, 3, 6, 9]
    found = group_redundancy(frame, measure="every_nth", threshold=4)
    assert found["cluster"].to_list() == [110] * 4 + [106] * 4 + [102] * 2
    assert found["similarity"].null_count() == 10
    assert "distance" not in found.columns


def test_vectors_are_covered_above_the_threshold_and_equal_ones_have_a_cosine_of_1():
    vectors = [[1.0, 0.0], [3.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 0.0], None]
    frame = table(vectors, "vector", pl.List(pl.Float32))
    found = group_redundancy(frame, measure="embedding", threshold=0.7)
    assert (found["uid"] == found["cluster"]).arg_true().to_list() == [0, 2, 4, 5]
    assert found["similarity"].to_list() == [
        1,
        1,
        pytest.approx(0.8),
        pytest.approx(0.8),
        *[None] * 2,
    ]
    assert exemplars(frame, measure="embedding", threshold=1) == list(range(6))
    # A similarity drops only above the threshold, in the precision in which it is written.
    assert exemplars(frame, measure="embedding", threshold=0.8) == [0, 2, 3, 4, 5]


def test_pictures_are_covered_by_likeness_or_by_what_they_say_of_each_other():
    ramp = np.add.outer(np.arange(40) * 3, np.arange(50) * 2).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, ramp.shape).astype(np.uint8)
    images = [png(p) for p in (ramp, ramp + 2, 255 - ramp, noise)]
    frame = table(images, "image", pl.Binary)
    assert exemplars(frame, measure="ssim", threshold=0.9) == [0, 2, 3]
    assert exemplars(frame, measure="mutual_information", threshold=0.8) == [0, 3]


# ------------------------------------------------------------------ against the plain rule


@pytest.mark.parametrize("threshold", [0, 1, 3, 6, 12, 40, 64])
def test_it_is_the_rule_of_deleting_what_is_near_the_first_remaining(threshold: int):
    for seed in range(20):
        bits = slices(seed)
        assert exemplars(table(bits), threshold=threshold) == greedy(bits, threshold)


def test_exemplars_are_further_apart_than_the_threshold_and_cover_the_others():
    bits = slices(3, 200)
    found = group_redundancy(table(bits), threshold=5)
    word = dict(zip(found["uid"], bits, strict=True))
    kept = found.filter(pl.col("uid") == pl.col("cluster"))["uid"].to_list()
    assert 20 < len(kept) < 180
    assert min((word[a] ^ word[b]).bit_count() for a in kept for b in kept if a != b) > 5
    for uid, cluster, distance in found.select("uid", "cluster", "distance").iter_rows():
        if uid != cluster:
            assert (word[uid] ^ word[cluster]).bit_count() == distance <= 5


def test_0_keeps_one_of_each_hash_and_64_one_of_each_group():
    bits = [*slices(1, jump=3)] * 2
    assert len(exemplars(table(bits), threshold=0)) == len(set(bits))
    assert exemplars(table(bits), threshold=64) == [0]


def test_of_an_exemplar_the_nearest_is_the_most_similar_that_it_covers_ties_by_uid():
    found = group_redundancy(table([0, 0b111, 0b1, 0b10]))
    assert found["nearest"].to_list() == [101, 104, 104, 104]
    assert found["distance"].to_list() == [1, 3, 1, 1]


@pytest.mark.parametrize("measure", ["hash", "embedding", "every_nth"])
def test_the_table_is_what_each_threshold_keeps(measure: str):
    rng = np.random.default_rng(5)
    frames = []
    for group in range(3):
        vectors = rng.normal(size=(1, 8)) + 0.4 * rng.normal(size=(12, 8))
        one = table(slices(group, 12), vector=pl.Series(vectors, dtype=pl.Array(pl.Float32, 8)))
        frames.append(
            one.with_columns(pl.col("uid") + 1000 * group, group=pl.lit(f"g{group}"))
        )  # fmt: skip
    frame = pl.concat(frames)
    tried = threshold_table(frame, measure=measure)
    assert len(tried) == 3 * {"hash": 65, "embedding": 101, "every_nth": 12}[measure]
    for threshold in tried["threshold"].unique().to_list()[::5]:
        found = group_redundancy(frame, measure=measure, threshold=threshold)
        kept = found.with_columns(frame["group"]).filter(pl.col("uid") == pl.col("cluster"))
        expected = dict(kept.group_by("group").len().iter_rows())
        here = tried.filter(pl.col("threshold") == threshold)
        assert dict(here.select("group", "kept").iter_rows()) == expected


@pytest.mark.parametrize("measure", ["hash", *MEASURES])
def test_the_target_is_met_by_the_closest_threshold_of_each_group(measure: str):
    rng = np.random.default_rng(2)
    x = np.linspace(0, 6, 24)
    waves = [np.add.outer(np.sin(x + n / 9), np.cos(2 * x - n / 5)) for n in range(20)]
    images = [png((60 * w + 128 + rng.normal(0, 4, w.shape)).astype(np.uint8)) for w in waves]
    vectors = pl.Series([w[:4].ravel() for w in waves], dtype=pl.Array(pl.Float32, 96))
    frame = table(slices(4, 20), image=images, vector=vectors)
    counts = threshold_table(frame, measure=measure)["kept"].to_numpy().astype(int)
    for ratio in (0, 0.1, 0.33, 0.7, 1):
        kept = len(exemplars(frame, measure=measure, target_ratio=ratio))
        assert abs(kept - ratio * 20) == np.abs(counts - ratio * 20).min()


# ------------------------------------------------------------------ order and groups


def test_the_order_is_the_slices_number_not_the_name_of_its_file():
    bits = [(1 << min(n, 11)) - 1 for n in range(14)]
    frame = table(bits, threshold=None).drop("threshold")
    by_name = frame.with_columns(order=pl.col("order").cast(pl.String))
    assert exemplars(frame, threshold=2) == greedy(bits, 2) == [0, 3, 6, 9]
    assert exemplars(by_name, threshold=2) != [0, 3, 6, 9]
    assert exemplars(frame.sample(fraction=1, shuffle=True, seed=1).sort("order"), threshold=2) == [
        0, 3, 6, 9,
    ]  # fmt: skip


def test_groups_know_nothing_of_each_other():
    one, two = table(slices(1)), table(slices(1))
    two = two.with_columns(pl.col("uid") + 1000, group=pl.lit("another"))
    both = pl.concat([one, two]).sample(fraction=1, shuffle=True, seed=3)
    for parameters in ({}, {"target_ratio": 0.4}):
        expected = pl.concat([group_redundancy(t, **parameters) for t in (one, two)])
        assert group_redundancy(both, **parameters).sort("uid").equals(expected.sort("uid"))


def test_without_a_group_or_a_value_a_record_stands_alone():
    frame = table([0, 0, 0, None, 0]).with_columns(
        group=pl.Series([None, None, "v", "v", "v"], dtype=pl.String)
    )
    assert exemplars(frame) == [0, 1, 2, 3]
    found = threshold_table(frame, measure="hash").filter(pl.col("threshold") == 6)
    assert found.rows() == [("v", 6.0, 3, 2), (None, 6.0, 2, 2)]


@pytest.mark.parametrize("measure", ["hash", *MEASURES])
def test_of_no_records_there_is_no_table_but_its_columns(measure: str):
    frame = table([0], image=[b""], vector=pl.Series([[1.0]])).clear()
    schema = {"group": pl.String, "threshold": pl.Float64, "records": pl.UInt32, "kept": pl.UInt32}
    found = threshold_table(frame, measure=measure)
    assert (found.height, dict(found.schema)) == (0, schema)


def test_records_without_an_order_come_last_by_uid():
    frame = table([0, 1, 2]).with_columns(order=pl.Series([None, None, 5]))
    found = group_redundancy(frame)
    assert found["cluster"].unique().to_list() == [101]


# ------------------------------------------------------------------ the hash of a picture


def test_on_pictures_the_hash_is_the_dhash_of_imagehash():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (30, 40, 3)).astype(np.uint8) for _ in range(6)]
    pictures += [np.minimum(p, 200) for p in pictures]
    frame = table([png(p) for p in pictures], "image", pl.Binary)
    bits = [int(str(imagehash.dhash(Image.fromarray(p))), 16) for p in pictures]
    for threshold in (4, 8, 12):
        by_picture = group_redundancy(frame, threshold=threshold)
        assert by_picture.equals(group_redundancy(table(bits), threshold=threshold))


def test_a_picture_of_16_bits_is_hashed_at_its_own_depth():
    # 12 bits in 16, all above 255: cut off at 255, as imagehash does, every slice is white.
    rng = np.random.default_rng(1)
    tiles = [rng.integers(300, 4096, (8, 9)) for _ in range(5)]
    deep = [np.kron(t, np.ones((8, 8))).astype(np.uint16) for t in tiles]
    assert {str(imagehash.dhash(Image.fromarray(p))) for p in deep} == {"0" * 16}
    floats = [Image.fromarray(p.astype(np.float32)) for p in deep]
    small = [np.asarray(f.resize((9, 8), Image.Resampling.LANCZOS)) for f in floats]
    bits = [s[:, 1:] > s[:, :-1] for s in small]
    frame = table([png(p) for p in (deep[0], *deep)], "image", pl.Binary)
    assert exemplars(frame, threshold=0) == [0, 2, 3, 4, 5]
    found = group_redundancy(frame, threshold=64)["distance"].to_list()[1:]
    assert found == [(bits[0] != b).sum() for b in bits]


def test_a_rising_picture_of_16_bits_sets_every_bit_and_a_flat_one_none():
    rising = np.tile(np.arange(300, 345, dtype=np.uint16), (40, 1))
    flat = np.full_like(rising, 700)
    frame = table([png(rising), png(flat)], "image", pl.Binary)
    assert group_redundancy(frame, threshold=64)["distance"].to_list() == [64, 64]


def test_bits_are_used_where_they_are_bound_and_broken_pictures_stand_alone():
    broken = png(np.zeros((20, 20), dtype=np.uint16))[:60]
    images = [png(np.zeros((20, 20), dtype=np.uint8)), b"no image", None, broken]
    assert exemplars(table(images, "image", pl.Binary)) == [0, 1, 2, 3]
    assert exemplars(table([0, 0, 0, 0], image=pl.Series(images, dtype=pl.Binary))) == [0]


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"measure": "ssim"}, '"ssim" needs it, or target_ratio'),
        ({"measure": "every_nth"}, '"every_nth" needs it'),
        ({"threshold": 6, "target_ratio": 0.5}, "not both"),
        ({"threshold": 6.5}, "a whole number from 0 to 64"),
        ({"threshold": 65}, "from 0 to 64"),
        ({"measure": "every_nth", "threshold": 0}, "from 1 up"),
        ({"measure": "embedding", "threshold": 6}, "a similarity from -1 to 1"),
        ({"target_ratio": 1.5}, "less than or equal to 1"),
    ],
)
def test_what_makes_no_threshold_is_refused_before_any_work(
    parameters: dict[str, Any], message: str
):
    with pytest.raises(ConfigError, match=message):
        _ = group_redundancy.bind(**parameters).writes


def test_without_bits_and_without_pictures_there_is_no_hash():
    with pytest.raises(ConfigError, match="needs the role bits or image"):
        group_redundancy(table([1, 2]).drop("bits"))


def test_vectors_that_are_no_numbers_are_refused():
    frame = table([[1.0, float("nan")], [1.0, 0.0]], "vector", pl.List(pl.Float32))
    with pytest.raises(DataError, match="NaN or infinity"):
        group_redundancy(frame, measure="embedding", threshold=0.5)


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_has_the_properties_of_a_groupwise_method(measure: str):
    threshold = 3 if measure == "every_nth" else 0.5
    assert "group_split" in check(group_redundancy.bind(measure=measure, threshold=threshold))
    assert "group_split" in check(group_redundancy.bind(measure=measure, target_ratio=0.4))


def test_the_roles_and_columns_are_those_of_the_measure():
    def roles(measure: str) -> list[str]:
        return list(group_redundancy.bind(measure=measure, target_ratio=0.5).reads)

    assert roles("hash") == ["group", "order", "bits", "image"]
    assert roles("ssim") == roles("mutual_information") == ["group", "order", "image"]
    assert roles("embedding") == ["group", "order", "vector"]
    assert roles("every_nth") == ["group", "order"]
    defaults = {role: spec.default for role, spec in group_redundancy.reads.items()}
    assert defaults == {"group": "series", "order": "position", "bits": None, "image": "image"}


@pytest.mark.data
def test_consecutive_frames_of_a_street_are_redundant(data):
    import tarfile

    with tarfile.open(data / "camvid" / "val-000.tar") as archive:
        names = [n for n in archive.getnames() if n.endswith(".jpg")]
        frames = [archive.extractfile(name).read() for name in names]
    frame = table(frames, "image", pl.Binary)
    bits = [int(str(imagehash.dhash(Image.open(io.BytesIO(f)))), 16) for f in frames]
    assert exemplars(frame) == greedy(bits, 6)
    table_of = dict(threshold_table(frame).select("threshold", "kept").iter_rows())
    assert table_of[0] == len(set(bits))
    assert table_of[12] < 0.6 * len(frames)
