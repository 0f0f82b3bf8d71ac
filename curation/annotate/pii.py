"""Personal data in a text: e-mail addresses, phone and card numbers, IBANs, IP addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

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
_MOST_BETWEEN = 3
_BETWEEN = np.isin(np.arange(256), np.frombuffer(b" .()/\n-", dtype=np.uint8))
"""What may stand between two groups of digits of one number."""

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
_BASE_36 = {ord(sign): str(int(sign, 36)) for sign in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
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
_GROUPED = ((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4), (4, 4, 5), (4, 5, 6))
_CODES = [sum(size << 5 * (_MOST_GROUPS - 1 - n) for n, size in enumerate(g)) for g in _GROUPED]
"""The sizes of each as one number, five bits a group."""


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
    groups = _groups(octets, digits)
    marks += _accepted(data, groups, _card, _cards(octets[digits], groups))
    marks += _accepted(data, groups, _phone, _phones(octets, groups))
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
        number = found[0].translate(None, b" \n")[:length].decode()
        if not length or len(number) < length:
            continue
        if int((number[4:] + number[:4]).translate(_BASE_36)) % 97 != 1:
            continue
        places = [n for n, octet in enumerate(found[0]) if octet in _WORD]
        end = start + places[length - 1] + 1
        if not (end < len(data) and data[end] in _WORD):
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


Piece = Sequence[tuple[int, int]]
Int64s = NDArray[np.int64]


class _Groups(NamedTuple):
    """Runs of digits, of which those with little between them may be one number.

    Attributes:
        starts: the place of each group's first digit; `ends` the place behind its last.
        ahead: digits ahead of each group; one more, all digits.
        begins: whether a number may begin with the group, as `ends_here` that it may end.
        run: groups that may be of one number have the same.
        breaks: line feeds between groups ahead of each; so `opened`, ( less ).
    """

    starts: Int64s
    ends: Int64s
    ahead: Int64s
    begins: NDArray[np.bool_]
    ends_here: NDArray[np.bool_]
    run: Int64s
    breaks: Int64s
    opened: Int64s


def _groups(octets: NDArray[np.uint8], digits: Int64s) -> _Groups:
    cuts = np.flatnonzero(np.diff(digits) > 1)
    starts = digits[np.concatenate([[0], cuts + 1])] if len(digits) else digits
    ends = digits[np.concatenate([cuts, [-1]])] + 1 if len(digits) else digits
    # A hyphen, which says nothing, stands where there are fewer signs.
    between = np.full((max(0, len(starts) - 1), _MOST_BETWEEN), ord("-"), dtype=np.uint8)
    wide = starts[1:] - ends[:-1]
    for n in range(_MOST_BETWEEN):
        there = wide > n
        between[there, n] = octets[ends[:-1][there] + n]
    joined = (wide <= _MOST_BETWEEN) & _BETWEEN[between].all(axis=1)
    is_break = between == ord("\n")
    spaced = ~joined | ((between == ord(" ")) | is_break).any(axis=1)
    opened = (between == ord("(")).sum(axis=1) - (between == ord(")")).sum(axis=1)
    first = np.ones(min(1, len(starts)), dtype=np.bool_)
    return _Groups(
        starts=starts,
        ends=ends,
        ahead=np.concatenate([[0], np.cumsum(ends - starts)]),
        begins=np.concatenate([first, spaced]),
        ends_here=np.concatenate([spaced, first]),
        run=np.concatenate([first, ~joined]).cumsum(),
        breaks=np.concatenate([[0], is_break.sum(axis=1).cumsum()]),
        opened=np.concatenate([[0], opened.cumsum()]),
    )


class _Pieces(NamedTuple):
    """Groups `first` to `last` of one run, which begin and end where a number may."""

    first: Int64s
    last: Int64s

    def where(self, mask: NDArray[np.bool_]) -> _Pieces:
        return _Pieces(self.first[mask], self.last[mask])


def _pieces(groups: _Groups, least: int, most: int) -> _Pieces:
    """Return the pieces with so many digits, by their first groups, the longest of each first."""
    found = [_Pieces(groups.starts[:0], groups.starts[:0])]
    for more in range(_MOST_GROUPS):
        first = np.arange(len(groups.starts) - more)
        last = first + more
        count = groups.ahead[last + 1] - groups.ahead[first]
        fits = (least <= count) & (count <= most) & (groups.run[first] == groups.run[last])
        fits &= groups.begins[first] & groups.ends_here[last]
        found.append(_Pieces(first[fits], last[fits]))
    firsts, lasts = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((-lasts, firsts))
    return _Pieces(firsts[order], lasts[order])


def _accepted(
    data: bytes, groups: _Groups, judge: Callable[[bytes, Piece], Mark | None], pieces: _Pieces
) -> Iterator[Mark]:
    """Yield what a judge accepts, at each group the longest piece, and go on behind it."""
    spans = list(zip(groups.starts.tolist(), groups.ends.tolist(), strict=True))
    behind = 0
    for first, last in zip(pieces.first.tolist(), pieces.last.tolist(), strict=True):
        if first >= behind and (mark := judge(data, spans[first : last + 1])):
            yield mark
            behind = last + 1


def _gaps(data: bytes, piece: Piece) -> list[bytes]:
    return [data[a[1] : b[0]] for a, b in pairwise(piece)]


def _cards(digits: NDArray[np.uint8], groups: _Groups) -> _Pieces:
    """Return the pieces that may be card numbers by the sizes of their groups and Luhn's sum."""
    pieces = _pieces(groups, 12, 19)
    first, last = pieces
    sizes = np.minimum(groups.ends - groups.starts, 31)
    code = np.zeros(len(first), dtype=np.int64)
    for more in range(_MOST_GROUPS):
        code = code * 32 + np.where(first + more <= last, sizes[np.minimum(first + more, last)], 0)
    # Up to each digit, the sum in which the even ones are doubled, and that with the odd ones.
    value = digits.astype(np.int64) - ord("0")
    doubled = value // 5 + 2 * value % 10
    is_odd = np.arange(len(value)) % 2 == 1
    sums = np.zeros((2, len(value) + 1), dtype=np.int64)
    np.cumsum(np.where(is_odd, value, doubled), out=sums[0, 1:])
    np.cumsum(np.where(is_odd, doubled, value), out=sums[1, 1:])
    begin, end = groups.ahead[first], groups.ahead[last + 1]
    # The last digit is never doubled.
    total = sums[end % 2, end] - sums[end % 2, begin]
    return pieces.where((total % 10 == 0) & ((first == last) | np.isin(code, _CODES)))


def _phones(octets: NDArray[np.uint8], groups: _Groups) -> _Pieces:
    """Return the pieces that may be phone numbers by what can be told of all at once."""
    pieces = _pieces(groups, 7, 15)
    first, last = pieces
    start = groups.starts[first]
    ahead = np.where(start > 0, octets[start - 1], 0)
    several = first < last
    # A parenthesis that closes behind the first group is the number's own.
    encloses = several & (octets[np.minimum(groups.ends[first], len(octets) - 1)] == ord(")"))
    leads = (ahead == ord("+")) | ((ahead == ord("(")) & encloses) | (octets[start] == ord("0"))
    sizes = groups.ends - groups.starts
    count = groups.ahead[last + 1] - groups.ahead[first]
    singles = np.concatenate([[0], (sizes == 1).cumsum()])
    like_years = (sizes == 4) & np.isin(octets[groups.starts], [ord("1"), ord("2")])
    years = (last == first + 1) & like_years[first] & like_years[last]
    usual = np.where(several, singles[last + 1] - singles[first] < 2, count >= 8)
    usual &= (count <= 11) & ~years
    # Of a parenthesis that opens ahead of the first digit only the closing one is between groups.
    opened = groups.opened[last] - groups.opened[first]
    closes = (opened == 0) | (opened == -1)
    return pieces.where(
        (leads | usual) & closes & (groups.breaks[last] - groups.breaks[first] <= 1)
    )


def _card(data: bytes, piece: Piece) -> Mark | None:
    start, end = piece[0][0], piece[-1][1]
    if not set(_gaps(data, piece)) <= {b" ", b"\n", b"-"}:
        return None
    number = b"".join(data[a:b] for a, b in piece)
    if not any(len(number) in lengths and begins.match(number) for begins, lengths in _NETWORKS):
        return None
    return Mark(start, end, "card") if _is_apart(data, start, end) else None


def _is_apart(data: bytes, start: int, end: int) -> bool:
    """Whether digits are not part of a word, of a decimal number or of a time."""
    before, behind = data[max(0, start - 2) : start], data[end : end + 2]
    if before and (before[-1] in _WORD or (before[-1] in b".," and before[0] in _NUMERALS)):
        return False
    if not behind:
        return True
    return behind[0] not in _WORD and not (behind[0] in b".:" and behind[-1] in _NUMERALS)


def _phone(data: bytes, piece: Piece) -> Mark | None:
    start, end = piece[0][0], piece[-1][1]
    numbers = [data[a:b] for a, b in piece]
    gaps = _gaps(data, piece)
    total = sum(map(len, numbers))
    ahead = data[max(0, start - 2) : start]
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
        return True
    sizes = [len(number) for number in numbers]
    thousands = sizes[0] < 3 and all(size == 3 for size in sizes[1:])
    sliced = any(b"/" in gap for gap in gaps)
    return not (dotted or thousands or sliced)
