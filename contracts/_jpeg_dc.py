"""The luma of a baseline JPEG at an eighth of its size, read from its DC coefficients alone.

A JPEG decoder that is asked for an eighth of the size keeps the mean of each block of 8 x 8, but
spells out the block's other 63 coefficients on the way. Here they are passed over, several at a
time: of the next bits a table says how many coefficients begin in them, and how long they are.

It is a short cut, no second opinion: of a stream not plainly in order it returns None,
and libjpeg decides; what it returns are libjpeg's pixels. Imported when used: it loads numba.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]
Answers = NDArray[np.uint16]
_Table = tuple[bytes, bytes]

# The bits that a table is asked about. More of them pass over more coefficients at once; but such
# a table takes longer to fill, and leaves the cache that is nearest to the processor.
_WINDOW_BITS = 12
# An answer: how many bits to pass over, at most these, so that three answers fit the 56 bits that
# are held ready; and 32 times how many coefficients they are.
_MOST_BITS = 18
_ANSWERS = 3
# Counted as coefficients where the block ends, and where the table does not know. A block has 64:
# one comparison tells both from a block that goes on.
_END = 128
_UNKNOWN = 1024
# A broken stream is read so far beyond its end before that is seen: the longest block, in bytes.
_BEYOND = 64 * 31 // 8 + 16
# Bytes that are looked over at once for a marker or a stuffed zero: some three in four have none.
_PIECE = 32


class _Plan(NamedTuple):
    """What the headers say of a scan that is taken.

    Attributes:
        shape: blocks of luma down and across the picture.
        sampling: blocks of luma down and across a unit.
        blocks: for each block of a unit the row of its tables.
        interval: units between restarts.
        parts: pieces that restarts divide the scan into.
        quantiser: what luma's DC coefficients were divided by.
        codes: see `_codes`.
    """

    shape: tuple[int, int]
    sampling: tuple[int, int]
    blocks: Integers
    interval: int
    parts: int
    quantiser: int
    codes: tuple[NDArray[np.generic], ...]


def eighth_luma(stream: bytes) -> Bytes | None:
    """Return (ceil(H / 8), ceil(W / 8)) luma, or None where libjpeg has to decide.

    Taken are JPEGs of one sequential scan, Huffman coded, of 8 bits, grey or YCbCr. `stream` ends
    with the marker of the end.
    Reference: ITU-T T.81, annexes B and F.
    """
    try:
        at = _scan_start(stream)
        plan = _plan(stream[:at])
        means = np.empty(plan.shape, np.int64)
        starts = np.zeros(plan.parts + 1, np.int64)
        data = np.empty(len(stream) - at + _BEYOND, np.uint8)
        _unstuff(np.frombuffer(stream, np.uint8)[at:-2], data, starts)
        _read(data, starts, plan, means)
    except (IndexError, KeyError, ValueError, struct.error):
        return None
    means *= plan.quantiser
    means += 128 * 8 + 4
    means >>= 3
    # Far beyond black and white libjpeg's arithmetic wraps around.
    if means.min() < -300 or means.max() > 500:
        return None
    return means.clip(0, 255).astype(np.uint8)


def _scan_start(stream: bytes) -> int:
    at, marker = 2, 0
    while marker != 0xFFDA:
        marker, length = struct.unpack_from(">HH", stream, at)
        at += 2 + length
    return at


@lru_cache(maxsize=256)
def _plan(headers: bytes) -> _Plan:
    """Read the headers, up to the scan's own.

    Raises:
        ValueError, IndexError, KeyError, struct.error: a header that is not taken, or damaged.
    """
    quantisers: dict[int, int] = {}
    tables: dict[int, _Table] = {}
    frame = body = b""
    interval, jfif, adobe, at = 0, False, -1, 2
    while at < len(headers):
        marker, length = struct.unpack_from(">HH", headers, at)
        body = headers[at + 4 : at + 2 + length]
        at += 2 + length
        match marker:
            case 0xFFDB:
                quantisers |= _quantisers(body)
            case 0xFFC4:
                tables |= _tables(body)
            case 0xFFC0 | 0xFFC1:
                frame = body
            case 0xFFDD:
                (interval,) = struct.unpack(">H", body)
            case 0xFFE0:
                jfif = len(body) >= 14
            case 0xFFEE:
                adobe = body[11]
            case 0xFFDA:
                pass
            case _:
                raise ValueError
    depth, height, width, count = struct.unpack_from(">BHHB", frame)
    ids, samplings, divided_by = (list(frame[6 + part :: 3]) for part in range(3))
    sides = [(sampling & 15, sampling >> 4) for sampling in samplings]
    down, across = sides[0]
    # As libjpeg guesses the colours.
    ycc = count == 3 and (jfif or adobe == 1 or (adobe == -1 and ids == [1, 2, 3]))
    taken = (
        (count == 1 or ycc)
        and (depth, len(frame), len(set(ids))) == (8, 6 + 3 * count, count)
        and height > 0 < width
        and all(0 < v <= down <= 4 and 0 < h <= across <= 4 for v, h in sides)
        and (body[0], list(body[1:-3:2]), body[-3:]) == (count, ids, b"\0\x3f\0")
        and quantisers.keys() >= set(divided_by)
    )
    if not taken:
        raise ValueError
    if count == 1:
        # A scan of one component has one block at a time, whatever its sampling.
        sides, down, across = [(1, 1)], 1, 1
    used = [(tables[choice >> 4], tables[0x10 | choice & 15]) for choice in body[2:-3:2]]
    pairs = tuple(dict.fromkeys(used))
    blocks = np.repeat([pairs.index(pair) for pair in used], [v * h for v, h in sides])
    if len(blocks) > 10:
        raise ValueError
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    return _Plan(
        shape=(-(-height // 8), -(-width // 8)),
        sampling=(down, across),
        blocks=blocks,
        interval=interval or units,
        parts=-(-units // interval) if interval else 1,
        quantiser=quantisers[divided_by[0]],
        codes=_codes(pairs),
    )


def _quantisers(body: bytes) -> dict[int, int]:
    """Return what each table divides the DC coefficient by, by the table's number."""
    found, at = {}, 0
    while at < len(body):
        wide, number = body[at] >> 4, body[at] & 15
        if wide > 1 or number > 3 or at + 65 + 64 * wide > len(body):
            raise ValueError
        found[number] = int.from_bytes(body[at + 1 : at + 2 + wide], "big")
        at += 65 + 64 * wide
    return found


def _tables(body: bytes) -> dict[int, _Table]:
    """Return each Huffman table's counts by length of code, and symbols, by class and number."""
    found, at = {}, 0
    while at < len(body):
        counts = body[at + 1 : at + 17]
        end = at + 17 + sum(counts)
        if body[at] & 0xEC or end > len(body) or sum(counts) > 256:
            raise ValueError
        found[body[at]] = (counts, body[at + 17 : end])
        at = end
    return found


@lru_cache(maxsize=64)
def _codes(pairs: tuple[tuple[_Table, _Table], ...]) -> tuple[NDArray[np.generic], ...]:
    """Return limits, places, symbols and answers of all DC codes, then those of all AC codes.

    Limits, (pairs, 17): the codes of at most so many bits are below, written as 16 bits. Places,
    (pairs, 17): what is added to a code of so many bits for its place among the symbols. Symbols,
    (pairs, 256). Answers, (pairs << _WINDOW_BITS,).
    """
    found: list[NDArray[np.generic]] = []
    for tables in zip(*pairs, strict=True):
        limits, places = np.zeros((2, len(tables), 17), np.int64)
        symbols = np.zeros((len(tables), 256), np.uint8)
        answers = np.zeros((len(tables), 1 << _WINDOW_BITS), np.uint16)
        for row, (counts, listed) in enumerate(tables):
            symbols[row, : len(listed)] = np.frombuffer(listed, np.uint8)
            lengths = np.frombuffer(counts, np.uint8)
            _number(lengths, symbols[row], bool(found), limits[row], places[row], answers[row])
        found += [limits, places, symbols, answers.ravel()]
    return tuple(found)


@njit(cache=True)
def _number(
    counts: Bytes, symbols: Bytes, of_ac: bool, limits: Integers, places: Integers, answers: Answers
) -> None:
    """Number the codes of one table and fill in its row. Reference: T.81, figures C.1 and C.2.

    An answer of a DC table is the bits and 32 times the symbol, which is a size; 0: not known.
    """
    code_bits = np.zeros(answers.size, np.int64)
    code, place = 0, 0
    for length in range(1, 17):
        places[length] = place - code
        # No code is all ones.
        if code + counts[length - 1] >= 1 << length:
            raise ValueError
        for _ in range(counts[length - 1]):
            symbol = np.int64(symbols[place])
            run, size = symbol >> 4, symbol & 15
            if of_ac:
                # A run of zeros before no value: the end, or sixteen of them.
                known = size > 0 or run in (0, 15)
                step = run + 1 if symbol else np.int64(_END)
            else:
                known = symbol <= 11
                step = size
            if not known:
                raise ValueError
            if length <= _WINDOW_BITS:
                first = code << (_WINDOW_BITS - length)
                after = (code + 1) << (_WINDOW_BITS - length)
                code_bits[first:after] = length
                answers[first:after] = length + size | step << 5
            code += 1
            place += 1
        limits[length] = code << (16 - length)
        code <<= 1
    if of_ac:
        _chain(answers, code_bits)


@njit(cache=True)
def _chain(answers: Answers, code_bits: Integers) -> None:
    """Let each answer go on over the coefficients whose codes are whole in its window."""
    single = answers.copy()
    for window in range(answers.size):
        bits, steps = np.int64(single[window] & 31), np.int64(single[window] >> 5)
        while 0 < bits < _WINDOW_BITS and steps < _END:
            rest = (window << bits) & (answers.size - 1)
            more_bits, more = np.int64(single[rest] & 31), np.int64(single[rest] >> 5)
            if more_bits == 0 or code_bits[rest] > _WINDOW_BITS - bits:
                break
            if bits + more_bits > _MOST_BITS or (steps + more) % _END > 63:
                break
            bits += more_bits
            steps += more
        known = 0 < bits <= _MOST_BITS
        answers[window] = bits | steps << 5 if known else _UNKNOWN << 5


@njit(cache=True)
def _unstuff(scan: Bytes, data: Bytes, starts: Integers) -> None:
    """Copy a scan without stuffed zeros and restart markers; where parts start goes to `starts`.

    Raises:
        ValueError: another marker, or a restart too many, too few or out of turn.
    """
    done, read, part = 0, 0, 0
    while read < scan.size:
        size = min(_PIECE, scan.size - read)
        piece, copy = scan[read : read + size], data[done : done + size]
        largest = np.uint8(0)
        # A loop of these alone is a few wide instructions.
        for index in range(size):
            copy[index] = piece[index]
            largest = max(largest, piece[index])
        if largest != 0xFF:
            done += size
            read += size
            continue
        stop = read + size
        while read < stop:
            value = scan[read]
            data[done] = value
            read += 1
            done += 1
            if value == 0xFF:
                following = scan[read] if read < scan.size else np.uint8(0xFF)
                read += 1
                if following != 0:
                    if following != 0xD0 + part % 8 or part == starts.size - 2:
                        raise ValueError
                    part += 1
                    done -= 1
                    starts[part] = done
    starts[-1] = done
    if part != starts.size - 2:
        raise ValueError


_U = np.uint64
_WINDOW = _U(64 - _WINDOW_BITS)
_Held = tuple[np.uint64, np.uint64, np.uint64]
_Code = tuple[int, np.int64]


@njit(cache=True)
def _filled(data: Bytes, at: np.uint64, held: np.uint64, count: np.uint64) -> _Held:
    """Fill up what is held of the stream, `count` bits from the top, to 56 bits or more.

    Eight bytes one by one: a compiler makes one wide read of them.
    """
    ahead = _U(0)
    for index in range(8):
        ahead |= _U(data[at + _U(index)]) << _U(56 - 8 * index)
    return at + (_U(63) - count >> _U(3)), held | ahead >> count, count | _U(56)


@njit(cache=True)
def _symbol(held: np.uint64, limits: Integers, places: Integers, symbols: Bytes) -> _Code:
    """Return the length of the first code, of up to 16 bits, and its symbol."""
    code = np.int64(held >> _U(48))
    for length in range(1, 17):
        if code < limits[length]:
            return length, np.int64(symbols[places[length] + (code >> (16 - length))])
    raise ValueError


@njit(cache=True)
def _read(data: Bytes, starts: Integers, plan: _Plan, means: Integers) -> None:
    """Fill in the DC coefficient of each luma block.

    Raises:
        ValueError: bits that are no code, a block of more than 64, a part that does not end with
            its last block.
    """
    dc_limits, dc_places, dc_symbols, dc_answers = plan.codes[:4]
    ac_limits, ac_places, ac_symbols, ac_answers = plan.codes[4:]
    (height, width), (down, across), blocks = plan.shape, plan.sampling, plan.blocks
    units_across = (width + across - 1) // across
    units = units_across * ((height + down - 1) // down)
    for part in range(starts.size - 1):
        at, end = _U(starts[part]), _U(8 * starts[part + 1])
        held, count, mean = _U(0), _U(0), np.int64(0)
        for unit in range(part * plan.interval, min((part + 1) * plan.interval, units)):
            top, left = unit // units_across * down, unit % units_across * across
            for block in range(blocks.size):
                table = blocks[block]
                row = _U(table << _WINDOW_BITS)
                at, held, count = _filled(data, at, held, count)
                answer = np.int64(dc_answers[row + (held >> _WINDOW)])
                bits, size = answer & 31, answer >> 5
                if bits == 0:
                    length, size = _symbol(
                        held, dc_limits[table], dc_places[table], dc_symbols[table]
                    )
                    bits = length + size
                if block < across * down:
                    if size:
                        value = np.int64(held << _U(bits - size) >> _U(64 - size))
                        mean += value if value >> (size - 1) else value + 1 - (1 << size)
                    y, x = top, left + block
                    while x >= left + across:
                        y, x = y + 1, x - across
                    if y < height and x < width:
                        means[y, x] = mean
                held <<= _U(bits)
                count -= _U(bits)
                index = np.int64(1)
                while index < 64:
                    at, held, count = _filled(data, at, held, count)
                    skip, steps = _U(0), np.int64(0)
                    for _ in range(_ANSWERS):
                        held <<= skip
                        count -= skip
                        several = _U(ac_answers[row + (held >> _WINDOW)])
                        skip, steps = several & _U(31), np.int64(several >> _U(5))
                        index += steps
                        if index > 63:
                            break
                    if index > 64 and not _END < index < _END + 64:
                        index -= steps
                        at, held, count = _filled(data, at, held, count)
                        length, symbol = _symbol(
                            held, ac_limits[table], ac_places[table], ac_symbols[table]
                        )
                        skip = _U(length + (symbol & 15))
                        index += (symbol >> 4) + 1 if symbol else _END
                        if symbol and index > 64:
                            raise ValueError
                    held <<= skip
                    count -= skip
                if (at << _U(3)) - count > end:
                    raise ValueError
        if end - ((at << _U(3)) - count) > _U(7):
            raise ValueError
