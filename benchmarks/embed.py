"""Images a second of each image encoder, against decoding plus a bare forward pass.

The floor is what cannot be avoided: decoding and resizing every image, then the same model on
the same pixels in whole batches, one after the other and with no threads of ours. Overlapping
both can go beyond it. Both are measured in turn within one run, the best of each counts.

    python -m benchmarks.embed [--images 256] [--side-px 512] [--device cuda] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from contracts import decode
from embeddings._inference import batch_rows, find_device, inference
from embeddings.checkpoint import Checkpoint
from embeddings.color_layout import ColorLayout, describe
from embeddings.efficientnet_lite import EfficientnetLite
from embeddings.open_clip import OpenClip
from pretraining.codecs import ImageCodec


def photographs(count: int, side_px: int) -> list[bytes]:
    """JPEGs of smooth random colours with some grain, about as large as photographs are."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(count):
        low = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        pixels = cv2.resize(low, (side_px * 4 // 3, side_px), interpolation=cv2.INTER_CUBIC)
        grain = rng.normal(0, 6, pixels.shape)
        pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
        files.append(bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]))
    return files


def clip(device: torch.device, precision: str) -> OpenClip:
    """ViT-B-32 with random weights: speed does not depend on their values."""
    from contracts import _torchvision  # noqa: F401  # isort: skip
    import open_clip
    from safetensors.torch import save_file

    config = open_clip.get_model_config("ViT-B-32")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = json.dumps({"model_cfg": config, "preprocess_cfg": {}})
        (folder / "open_clip_config.json").write_text(text)
        model = open_clip.model.CLIP(**config)
        save_file(model.state_dict(), folder / "open_clip_model.safetensors")
        return OpenClip(str(device), model=str(folder), precision=precision)


class SmallConv(torch.nn.Module):
    """Stands for what the bundled trainer exports: small enough for decoding to matter."""

    dim = 128
    codec = ImageCodec(64)

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 32, 3, stride=2),
            torch.nn.ReLU(),
            torch.nn.Conv2d(32, 64, 3, stride=2),
            torch.nn.ReLU(),
            torch.nn.Conv2d(64, 128, 3, stride=2),
        )

    def prepare(self, data: bytes) -> NDArray[np.uint8]:
        """Return the pixels of a picture, (64, 64, 3)."""
        return self.codec.encode(data).transpose(1, 2, 0)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Return (B, 128)."""
        return self.layers(images_BCHW / 255).mean((2, 3))


def best_of(rounds: int, *functions: Callable[[], Any]) -> list[float]:
    """Seconds of each function, the best of some rounds in which they take turns."""
    seconds = [float("inf")] * len(functions)
    for _ in range(rounds):
        for place, function in enumerate(functions):
            start = time.perf_counter()
            function()
            seconds[place] = min(seconds[place], time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--side-px", type=int, default=512, help="the shorter side of the JPEGs")
    parser.add_argument("--device", help="found by itself where not given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of torch, on the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    device = find_device(options.device)
    files = photographs(options.images, options.side_px)
    rows = pl.DataFrame({"image": files})
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{device}"

    encoders: list[tuple[str, Any, Any, Any]] = []
    if device.type == "cuda":
        for precision in ("float16", "bfloat16"):
            model = clip(device, precision)
            encoders.append(("open_clip ViT-B-32", model, model.prepare, model.forward_image))
    else:
        model = clip(device, "float32")
        encoders.append(("open_clip ViT-B-32", model, model.prepare, model.forward_image))
    lite = EfficientnetLite(str(device))
    encoders.append(("efficientnet_lite", lite, lite.prepare, lite.forward))
    conv = SmallConv().eval().to(device)
    small = Checkpoint({"encoder": conv}, {}, str(device))
    encoders.append(("checkpoint (small)", small, conv.prepare, conv))

    print(f"{options.images} JPEGs, shorter side {options.side_px} px; {name}\n")
    print("| encoder | numerics | images/s | decode + forward, images/s | ratio |")
    print("|---|---|---:|---:|---:|")
    size = batch_rows(device)
    for title, encoder, prepare, forward in encoders:

        def floor(prepare: Any = prepare, forward: Any = forward, encoder: Any = encoder) -> None:
            decode.forget()
            pixels = np.stack([prepare(data) for data in files])
            dtype = getattr(torch, encoder.numerics.partition("/")[2])
            with inference(device, dtype):
                for start in range(0, len(pixels), size):
                    batch = torch.from_numpy(pixels[start : start + size]).to(device)
                    out = forward(batch.permute(0, 3, 1, 2))
                out.cpu()

        def ours(encoder: Any = encoder) -> None:
            decode.forget()
            encoder(rows)

        report(title, encoder.numerics, len(files), *best_of(options.rounds, ours, floor))

    layout = ColorLayout()

    def layout_floor() -> None:
        decode.forget()
        for data in files:
            describe(decode.reduced(data, 64))

    def layout_ours() -> None:
        decode.forget()
        layout(rows)

    found = best_of(options.rounds, layout_ours, layout_floor)
    report("color_layout", layout.numerics, len(files), *found)


def report(title: str, numerics: str, count: int, ours: float, floor: float) -> None:
    ratio = floor / ours
    print(f"| {title} | {numerics} | {count / ours:.0f} | {count / floor:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
