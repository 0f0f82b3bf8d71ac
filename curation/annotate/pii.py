"""Personal data in a text: e-mail addresses, phone and card numbers, IBANs, IP addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation import _spans
from curation._spans import Mark
from curation.step import Role, rowwise

KINDS = {"emails": "email", "phones": "phone", "cards": "card", "ibans": "iban", "ips": "ip"}
"""Columns of counts, and the kind that each counts."""

# What a regular expression reads is short or possessive: none goes back over what it has read.
_LOCAL = re.compile(rb"[A-Za-z0-9._%+'-]{1,64}+")
_DOMAIN = re.compile(rb"[A-Za-z0-9-]{1,63}+(?:\.[A-Za-z0-9-]{1,63}+){1,8}+")
_TOP = re.compile(rb"[A-Za-z]{2,24}|xn--[A-Za-z0-9-]+")
# The scaled pictures of web pages are named picture@2x.png.
_PICTURES = frozenset((b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"avif"))
_IBAN = re.compile(rb"[A-Z]{2}[0-9]{2}(?:[ \n]?[A-Z0-9]){11,40}")
_IP4 = re.compile(rb"(?<![\w.-])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w]|\.[0-9])")
_IP6 = re.compile(
    rb"(?<![\w.])(?<![0-9A-Fa-f]:)(?<!::)[0-9A-Fa-f:]{4,39}+(?:\.[0-9]{1,3}){0,3}(?![\w:])"
)
_DIGITS = re.compile(rb"[0-9]++")
_BETWEEN = re.compile(rb"[ .()/\n-]{1,3}")
_EXTENSION = re.compile(rb" ?(?:x|ext\.?|#) ?[0-9]{1,6}")
_DATES = {
    b"y": rb"(?:1[0-9]|20)[0-9]{2}",
    b"m": rb"(?:0?[1-9]|1[0-2])",
    b"d": rb"(?:0?[1-9]|[12][0-9]|3[01])",
    b"s": rb"[-./ ]",
}
_DATE = re.compile(
    rb"(?:%(y)s(%(s)s?)%(m)s\1%(d)s|%(d)s(%(s)s)%(m)s\2%(y)s|%(m)s(%(s)s)%(d)s\3%(y)s)(?![0-9])"
    % _DATES
)
_WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
_NUMERALS = frozenset(b"0123456789")
_MOST_GROUPS = 7

# Letters and digits of an IBAN by country, of SWIFT's registry.
_IBAN_LENGTHS = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",  # codespell:ignore fo
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH CR HR LI LV",
    22: "BG BH DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_LENGTH = {code: n for n, codes in _IBAN_LENGTHS.items() for code in codes.split()}

# How the numbers of a network begin, and how many digits they have (ISO/IEC 7812).
_NETWORKS = tuple(
    (re.compile(begins), range(least, most + 1))
    for begins, least, most in (
        (rb"4", 13, 13),
        (rb"4", 16, 16),
        (rb"4", 19, 19),
        (rb"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", 16, 16),
        (rb"3[47]", 15, 15),
        (rb"30[0-5]|309|3[689]", 14, 19),
        (rb"2131|1800", 15, 15),
        (rb"35", 16, 19),
        (rb"6|81|220[0-4]", 16, 19),
        (rb"5[0678]|6304|6390|67|0604", 12, 19),
    )
)
_GROUPED = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4), (4, 4, 5), (4, 5, 6)}


@rowwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={**dict.fromkeys(KINDS, pl.UInt32), "spans": _spans.MARKS},
)
def pii(rows: pl.DataFrame) -> pl.DataFrame:
    """Mark what names or reaches a person, by form and by checksum, without a model.

    An e-mail address has a domain with a top level of letters. A phone number is 7 to 15 ASCII
    digits: after `+`, `(` or a leading 0 in any groups; else 8 to 11 in a row, or 7 to 11 in groups
    that are no date, no pair of years and no thousands. A card number has a network's beginning and
    length, and a valid Luhn sum; an IBAN its country's length and the remainder 1 by 97. An IP
    address is one that Python's `ipaddress` reads, of version 6 one with a digit. One line may be
    broken in a phone, card or account number.

    It does not see names, postal addresses, digits of other scripts, e-mail addresses beyond ASCII
    or written with "at". Known false hits: numbers of 8 to 11 digits that count or name something
    else (seconds since 1970 too), columns of short numbers set apart by single spaces, versions of
    four numbers, `git@host`.

    Reads:
        text: what is searched.
    Reference: forms: RFC 5322 section 3.4.1, ITU-T E.164, ISO/IEC 7812-1 annex B (Luhn), ISO 13616
        (IBAN), RFC 4291. Penedo et al. 2024, FineWeb, arXiv:2406.17557, masks e-mail and public IP
        addresses alone.
    Writes:
        emails: spans of the kind `email`; null for a null text, as all columns.
        phones: of the kind `phone`.
        cards: of the kind `card`.
        ibans: of the kind `iban`.
        ips: of the kind `ip`.
        spans: `kind`, and `start` and `end` in characters; ascending, none overlaps another.
    Cost: linear; some 100 MB/s where few digits stand.
    """
    return _spans.marked(rows["text"], _found, KINDS)


def _found(data: bytes) -> list[Mark]:
    octets = np.frombuffer(data, dtype=np.uint8)
    digits = np.flatnonzero((octets - ord("0")) < 10)
    marks = [*_emails(data, octets), *_ibans(data, octets, digits), *_ips(data, octets)]
    runs = list(_runs(data, digits))
    for judge, least, most in ((_card, 12, 19), (_phone, 7, 15)):
        marks += [mark for run in runs for mark in _accepted(data, run, judge, least, most)]
    return _spans.apart(marks)


def _clusters(places: NDArray[np.int64], gap: int, least: int) -> Iterator[tuple[int, int]]:
    """Yield the first and last of at least so many places of which none is farther than a gap."""
    if not len(places):
        return
    cuts = np.flatnonzero(np.diff(places) > gap) + 1
    firsts, lasts = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(places)]]) - 1
    enough = lasts - firsts >= least - 1
    yield from zip(places[firsts[enough]].tolist(), places[lasts[enough]].tolist(), strict=True)


def _emails(data: bytes, octets: NDArray[np.uint8]) -> Iterator[Mark]:
    for at in np.flatnonzero(octets == ord("@")).tolist():
        domain = _DOMAIN.match(data, at + 1)
        local = _LOCAL.match(data[max(0, at - 64) : at][::-1])
        if domain is None or local is None:
            continue
        start = at - len(local[0].rstrip(b".'-"))
        name = domain[0].rstrip(b"-")
        top = name[name.rfind(b".") + 1 :]
        far = start and (data[start - 1] == ord("@") or data[start - 1] in _WORD)
        if start < at and not far and _TOP.fullmatch(top) and top.lower() not in _PICTURES:
            yield Mark(start, at + 1 + len(name), "email")


def _ibans(data: bytes, octets: NDArray[np.uint8], digits: NDArray[np.int64]) -> Iterator[Mark]:
    first = digits[:-1][(np.diff(digits) == 1) & (digits[:-1] >= 2)]
    capitals = ((octets[first - 1] - ord("A")) < 26) & ((octets[first - 2] - ord("A")) < 26)
    for start in (first[capitals] - 2).tolist():
        if start and data[start - 1] in _WORD:
            continue
        found = _IBAN.match(data, start)
        if found is None:
            continue
        length = _IBAN_LENGTH.get(found[0][:2].decode(), 0)
        places = [n for n, octet in enumerate(found[0]) if octet in _WORD][:length]
        if not length or len(places) < length:
            continue
        end = start + places[-1] + 1
        number = bytes(found[0][n] for n in places).decode()
        rest = "".join(str(int(letter, 36)) for letter in number[4:] + number[:4])
        if int(rest) % 97 == 1 and not (end < len(data) and data[end] in _WORD):
            yield Mark(start, end, "iban")


def _ips(data: bytes, octets: NDArray[np.uint8]) -> Iterator[Mark]:
    colons = np.flatnonzero(octets == ord(":"))
    for first, last in _clusters(colons, 5, 2):
        for found in _IP6.finditer(data, max(0, first - 4), last + 20):
            address = found[0].removesuffix(b":") if not found[0].endswith(b"::") else found[0]
            groups = address.split(b":")
            long = len(groups[0]) == 4 or len(groups) > 3
            if long and groups[-1] and _DIGITS.search(address) and _is_address(address):
                yield Mark(found.start(), found.start() + len(address), "ip")
    dots = np.flatnonzero(octets == ord("."))
    for first, last in _clusters(dots, 4, 3):
        for found in _IP4.finditer(data, max(0, first - 3), last + 7):
            if _is_address(found[0]):
                yield Mark(found.start(), found.end(), "ip")


def _is_address(written: bytes) -> bool:
    try:
        ipaddress.ip_address(written.decode())
    except ValueError:
        return False
    return True


Run = Sequence[tuple[int, int]]


def _runs(data: bytes, digits: NDArray[np.int64]) -> Iterator[Run]:
    """Yield groups of digits, start and end, that at most three signs set apart."""
    for first, last in _clusters(digits, 4, 7):
        run: list[tuple[int, int]] = []
        for found in _DIGITS.finditer(data, first, last + 1):
            if run and not _BETWEEN.fullmatch(data, run[-1][1], found.start()):
                yield run
                run = []
            run.append(found.span())
        yield run


def _gaps(data: bytes, run: Run) -> list[bytes]:
    return [data[a[1] : b[0]] for a, b in pairwise(run)]


def _accepted(
    data: bytes, run: Run, judge: Callable[[bytes, Run], Mark | None], least: int, most: int
) -> Iterator[Mark]:
    """Yield what a judge accepts of a run, at each group the longest piece that it accepts.

    A piece has at least and at most so many digits, and within a run it begins and ends only
    where there is a space or a broken line.
    """
    ahead = [0, *accumulate(end - start for start, end in run)]
    if ahead[-1] < least:
        return
    # Whether a piece may begin at a group, and end ahead of it.
    open_at = [True, *(b" " in gap or b"\n" in gap for gap in _gaps(data, run)), True]
    first = 0
    while first < len(run):
        behind = first + 1
        if open_at[first]:
            for stop in range(min(len(run), first + _MOST_GROUPS), first, -1):
                if not open_at[stop] or not least <= ahead[stop] - ahead[first] <= most:
                    continue
                if mark := judge(data, run[first:stop]):
                    yield mark
                    behind = stop
                    break
        first = behind


def _card(data: bytes, piece: Run) -> Mark | None:
    start, end = piece[0][0], piece[-1][1]
    sizes = tuple(b - a for a, b in piece)
    gaps = set(_gaps(data, piece))
    if len(sizes) > 1 and (sizes not in _GROUPED or not gaps <= {b" ", b"\n", b"-"}):
        return None
    number = b"".join(data[a:b] for a, b in piece)
    if not any(len(number) in lengths and begins.match(number) for begins, lengths in _NETWORKS):
        return None
    if not _is_apart(data, start, end) or not _is_luhn(number):
        return None
    return Mark(start, end, "card")


def _is_luhn(number: bytes) -> bool:
    digits = [octet - ord("0") for octet in reversed(number)]
    return sum(digits[::2] + [(2 * d) // 10 + (2 * d) % 10 for d in digits[1::2]]) % 10 == 0


def _is_apart(data: bytes, start: int, end: int) -> bool:
    """Whether digits are not part of a word, of a decimal number or of a time."""
    before, behind = data[max(0, start - 2) : start], data[end : end + 2]
    if before and (before[-1] in _WORD or (before[-1] in b".," and before[0] in _NUMERALS)):
        return False
    if not behind:
        return True
    return behind[0] not in _WORD and not (behind[0] in b".:" and behind[-1] in _NUMERALS)


def _phone(data: bytes, piece: Run) -> Mark | None:
    start, end = piece[0][0], piece[-1][1]
    numbers = [data[a:b] for a, b in piece]
    gaps = _gaps(data, piece)
    total = sum(map(len, numbers))
    if sum(gap.count(b"\n") for gap in gaps) > 1:
        return None
    ahead = data[max(0, start - 2) : start]
    # A parenthesis that closes behind the first group is the number's own.
    leads = (b"(+", b"(", b"+", b"") if gaps and gaps[0].startswith(b")") else (b"+", b"")
    lead = next(sign for sign in leads if ahead.endswith(sign))
    if not _may_be_phone(lead, numbers, gaps, total):
        return None
    if not lead and _DATE.match(data, start, end):
        return None
    if extension := _EXTENSION.match(data, end):
        end = extension.end()
    start -= len(lead)
    opened = data.count(b"(", start, end) == data.count(b")", start, end)
    return Mark(start, end, "phone") if opened and _is_apart(data, start, end) else None


def _may_be_phone(lead: bytes, numbers: list[bytes], gaps: list[bytes], total: int) -> bool:
    first, rest = numbers[0], numbers[1:]
    if b"+" in lead:
        return total >= 8 and not first.startswith(b"0")
    if lead:
        return total >= 8
    dotted = len(gaps) == 1 and b"." in gaps[0]
    if first.startswith(b"0"):
        long = 8 if not rest else 7
        return total >= long and not dotted and (len(first) > 1 or gaps[0] == b" ")
    if not rest:
        return 8 <= total <= 11
    sizes = [len(number) for number in numbers]
    thousands = sizes[0] < 3 and all(size == 3 for size in sizes[1:])
    years = sizes == [4, 4] and all(number[:1] in b"12" for number in numbers)
    sliced = any(b"/" in gap for gap in gaps)
    return total <= 11 and sizes.count(1) < 2 and not (dotted or thousands or years or sliced)
