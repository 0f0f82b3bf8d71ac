from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy import stats

from contracts.uid import (
    digest_of,
    hex_uid,
    mix,
    parse_uid,
    parse_uids,
    random_bits,
    set_digest,
    shuffled,
    uid_of,
    uniform,
)

MANY = np.arange(20_000, dtype=np.uint64)


def test_known_uids_do_not_change():
    assert uid_of("web", "a.jpg") == 0xED9C7B29707756F0
    assert uid_of("", "") == 5657698912149702814


def test_a_uid_is_the_head_of_blake2b_over_the_length_prefixed_names():
    for source, source_id in (("web", "a.jpg"), ("w", "é\n"), ("", "x")):
        name, key = source.encode(), source_id.encode()
        whole = hashlib.blake2b(len(name).to_bytes(4, "big") + name + key, digest_size=8)
        assert f"{uid_of(source, source_id):016x}" == whole.hexdigest()


def test_a_letter_that_moves_from_the_source_to_the_id_makes_another_uid():
    assert uid_of("web", "a.jpg") != uid_of("we", "ba.jpg")


def test_names_that_are_no_unicode_have_uids_too():
    assert uid_of("s", "cof\udce9.jpg") != uid_of("s", "cofé.jpg")


def test_known_digests_do_not_change():
    assert digest_of(b"abc").hex() == "cf4ab791c62b8d2b2109c90275287816"
    assert digest_of("") == digest_of(b"") == hashlib.blake2b(digest_size=16).digest()
    assert digest_of("é") == digest_of("é".encode())


def test_sixteen_hexadecimal_digits_name_a_uid_and_nothing_else_does():
    assert hex_uid(1) == "0000000000000001"
    for uid in (0, 1, 2**64 - 1, uid_of("web", "a.jpg")):
        assert parse_uid(hex_uid(uid)) == uid
    for text in ("", "1", "g" * 16, "0" * 17, " " * 16, "0x00000000000001", "-000000000000001",
                 "+000000000000001", "0000_0000_000000"):  # fmt: skip
        assert parse_uid(text) is None


def test_mix_is_splitmix64():
    # The first output of the reference generator seeded with 0 is e220a8397b1dcdaf.
    assert mix(np.array([0], dtype=np.uint64))[0] == 0xE220A8397B1DCDAF
    assert len(np.unique(mix(MANY))) == len(MANY)


def test_known_draws_do_not_change():
    uids = np.array([0, 1, 2**64 - 1], dtype=np.uint64)
    bits = random_bits(uids[:2], 0, "random_sample").tolist()
    assert bits == [16742547120611089948, 14838464285724556474]
    assert uniform(uids, 0, "random_sample").tolist() == [
        0.9076152980553734, 0.8043947607465566, 0.7589906352832015,
    ]  # fmt: skip
    assert uniform(uids[:1], 1, "random_sample").tolist() == [0.08208273687846201]


def test_a_draw_depends_on_its_own_uid_alone():
    draws = uniform(MANY, 3, "s")
    order = np.random.default_rng(0).permutation(len(MANY))
    assert np.array_equal(uniform(MANY[order], 3, "s"), draws[order])
    assert np.array_equal(uniform(MANY[:7], 3, "s"), draws[:7])


@pytest.mark.parametrize("kind", ["consecutive", "hashed", "multiples"])
def test_draws_are_uniform_whatever_the_uids(kind: str):
    uids = {"consecutive": MANY, "hashed": mix(MANY), "multiples": MANY << np.uint64(40)}[kind]
    draws = uniform(uids, 0, "random_sample")
    assert 0 <= draws.min() < draws.max() < 1
    counts = np.bincount((draws * 100).astype(int), minlength=100)
    assert stats.chisquare(counts).pvalue > 0.001
    assert stats.kstest(draws, "uniform").pvalue > 0.001


@pytest.mark.parametrize(
    ("one", "other"),
    [((0, "a"), (0, "b")), ((0, "a"), (1, "a")), ((0, "kmeans"), (0, "kmeans#2"))],
)
def test_two_streams_or_seeds_are_independent(one: tuple[int, str], other: tuple[int, str]):
    first, second = uniform(MANY, *one), uniform(MANY, *other)
    table = np.histogram2d(first, second, bins=10, range=[[0, 1], [0, 1]])[0]
    assert stats.chi2_contingency(table).pvalue > 0.001
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_a_seed_and_a_stream_do_not_run_into_each_other():
    assert uniform(MANY[:1], 1, "1a") != uniform(MANY[:1], 11, "a")


def test_a_shuffle_is_a_permutation_that_a_subset_keeps():
    order = shuffled(MANY, 0, "export")
    assert np.array_equal(np.sort(order), np.arange(len(MANY)))
    assert not np.array_equal(order, np.arange(len(MANY)))
    whole = MANY[order]
    half = MANY[::2]
    assert np.array_equal(half[shuffled(half, 0, "export")], whole[np.isin(whole, half)])


def test_the_digests_of_parts_add_up_to_that_of_the_whole():
    items = [f"record {i}".encode() for i in range(50)]
    whole = set_digest(items)
    assert whole == (set_digest(items[:20]) + set_digest(items[20:])) % 2**128
    assert whole == set_digest(reversed(items))
    assert whole != set_digest(items[1:])
    assert set_digest([]) == 0
    # Not a xor: a record twice is seen.
    assert set_digest([b"a", b"a"]) != 0
    by_hand = sum(int.from_bytes(digest_of(i), "big") for i in items)
    assert whole == by_hand % 2**128


def test_a_column_of_uids_is_hexadecimal_only_where_all_of_it_can_be():
    import polars as pl

    digits = "1234567890123456"
    assert parse_uids(pl.Series([digits, "00000000000000ff"])).to_list() == [int(digits, 16), 255]
    assert parse_uids(pl.Series([digits, "18446744073709551615"])).to_list() == [
        int(digits),
        2**64 - 1,
    ]
    assert parse_uids(pl.Series(["18446744073709551616", "x", "-1", "٣", None])).null_count() == 5
    assert parse_uids(pl.Series([1, -1])).to_list() == [1, None]
    assert parse_uids(pl.Series([1.0])).to_list() == [None]
    assert parse_uids(pl.Series([], dtype=pl.String)).len() == 0
