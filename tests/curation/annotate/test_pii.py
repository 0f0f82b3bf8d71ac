"""Personal data by form and checksum: what is marked, and what just is not."""

from __future__ import annotations

import random

import polars as pl
import pytest

from curation.annotate.pii import KINDS, pii


def table(*texts: str | None) -> pl.DataFrame:
    uids = pl.int_range(len(texts), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})


def found(text: str) -> list[tuple[str, str]]:
    spans = pii(table(text))["spans"].to_list()[0]
    return [(span["kind"], text[span["start"] : span["end"]]) for span in spans]


def luhn(number: str) -> int:
    digits = [int(digit) for digit in number][::-1]
    return sum(d if n % 2 == 0 else sum(divmod(2 * d, 10)) for n, d in enumerate(digits)) % 10


MARKED = {
    "email": [
        "ann.lee+news@mail.example.co.uk", "o'neil_1@example.org", "a@b.co",
        "x@xn--80ak6a.xn--p1ai",
    ],
    "phone": [
        "+49 (0) 9141 777631", "+1-537-640-6812x41586", "(591)341-7776",
        "(0161) 4960066", "15191417776",
        "06121 81931", "609 141 777", "080-9141-7776", "8 (066) 907-43-91",
        "34 49 78 69", "258 5 178",
        "0150008063", "+33 1 83\n41 77 76",
    ],
    "card": [
        "4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005",
        "3782 822463 10005", "4111 1111\n1111 1111",
    ],
    "iban": ["GB82WEST12345698765432", "DE89 3704 0044 0532 0130 00", "NO9386011117947"],
    "ip": [
        "192.168.0.1", "255.255.255.255", "2001:db8::8a2e:370:7334", "fe80::1",
        "::ffff:10.0.0.1",
    ],
}  # fmt: skip
PASSED_OVER = {
    "email": [
        "ann@example", "ann@example.c0m", "@example.org", "icon@2x.png",
        "@ann@example.social",
    ],
    "phone": [
        "2026-11-30", "30.11.2026", "1954 1960", "1954-1960", "12 345 678", "555-123",
        "12345678901234", "(12345678901234", "(1954 1960)",
        "978-0-306-40615-7", "3.14159265", "0.12345678", "20261130", "a0612345678", "0612345678b",
        "451 (1954)", "2026-11-30 12:34:56", "+0123 4567", "52.5200066",
    ],
    "card": ["4111111111111112", "9999999999999995", "411111111111111", "4111 11111111 1111"],
    "iban": ["GB82WEST12345698765433", "GB82WEST1234569876543", "ZZ82WEST12345698765432"],
    "ip": [
        "256.1.1.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "12:34:56", "std::vector",
        "1961::", "1::2",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize(
    "around", ["{}", "see {}, and", "é电话({})。", '{{"x":"{}"}}', "1\t{}\tx", "<{}>"]
)
def test_what_has_the_form_and_the_checksum_is_marked_from_end_to_end(kind: str, around: str):
    for written in MARKED[kind]:
        assert found(around.format(written)) == [(kind, written)]


@pytest.mark.parametrize("kind", KINDS.values())
def test_what_just_lacks_it_is_not(kind: str):
    for written in PASSED_OVER[kind]:
        assert kind not in dict(found(f"see {written} here")), written


def test_columns_count_the_spans_of_each_kind_and_a_null_has_none():
    rows = pii(table("a@b.co 10.0.0.1 c@d.org", "", None))
    assert rows["emails"].to_list() == [2, 0, None]
    assert rows["ips"].to_list() == [1, 0, None]
    assert rows["spans"].to_list()[1:] == [[], None]


def test_numbers_of_two_texts_are_not_one():
    assert pii(table("+49 30 12", "34567", "a@b", ".co"))["spans"].list.len().to_list() == [0] * 4


def test_two_numbers_in_a_row_are_two():
    pair = "4111 1111 1111 1111 5500 0000 0000 0004"
    assert found(pair) == [("card", pair[:19]), ("card", pair[20:])]
    assert found("(+48 512 465 891) 20 years") == [("phone", "+48 512 465 891")]


def test_spans_are_in_order_within_their_text_and_apart():
    rng = random.Random(1)
    written = [one for kind in MARKED.values() for one in kind]
    pieces = [*"a1 +(@.:-é\0\U0001f468\u200d\u0301\u05d0", *written]
    texts = ["".join(rng.choices(pieces, k=rng.randrange(20))) for _ in range(1000)]
    marked = pii(table(*texts))["spans"].to_list()
    assert sum(map(len, marked)) > 1000
    for text, spans in zip(texts, marked, strict=True):
        ends = [0] + [span["end"] for span in spans]
        assert all(end <= span["start"] for end, span in zip(ends, spans, strict=False))
        assert ends[-1] <= len(text)


def test_a_card_number_is_one_by_luhn():
    rng = random.Random(2)
    numbers = [f"4{rng.randrange(10**15):015}" for _ in range(500)]
    marked = pii(table(*numbers))["cards"].to_list()
    assert marked == [int(luhn(number) == 0) for number in numbers]
    assert 20 < sum(marked) < 80


def test_a_line_of_ten_million_octets_is_searched_to_its_end():
    assert pii(table("é" * 5_000_000 + " a@b.co"))["spans"].to_list() == [
        [{"kind": "email", "start": 5_000_001, "end": 5_000_007}]
    ]
