"""Make `import torchvision` work beside a CPU build of torch; import this first.

The registry's torchvision wheel is built for CUDA. Its extension does not load beside a CPU
torch, the operators `nms` and `qnms` are then unknown, and `import torchvision` dies while it
registers their shape functions; open_clip, timm and transformers die with it. Declaring the two
signatures is enough: transforms and models work, `torchvision.ops.nms` stays missing.
"""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import torch


def _declare() -> torch.library.Library | None:
    spec = importlib.util.find_spec("torchvision")
    if torch.version.cuda or spec is None or spec.origin is None:
        return None
    for extension in Path(spec.origin).parent.glob("_C*.so"):
        with contextlib.suppress(OSError):
            torch.ops.load_library(str(extension))  # type: ignore[no-untyped-call]
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


# The declarations live as long as this handle.
DECLARED = _declare()
