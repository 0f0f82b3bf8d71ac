"""Networks in ONNX, run on one thread: a result depends on its input alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts import packages
from contracts.errors import ConfigError

Floats = NDArray[np.float32]
Network = Callable[[Floats], Floats]
PACKAGES = {"onnxruntime": packages.QUALITY}
"""What a method that calls `network` declares."""


@lru_cache(maxsize=8)
def network(method: str, path: Path) -> Network:
    """Return a network of one input and, of its outputs, the first; made once a process.

    Raises:
        ConfigError: the file is no network of one input.
    """
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session: Any = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        (name,) = (one.name for one in session.get_inputs())
    # onnxruntime raises classes of its own that share no other base.
    except Exception as error:
        raise ConfigError(f"{method}: {path.name} is no network of one input: {error}") from error
    first = session.get_outputs()[0].name

    def run(values: Floats) -> Floats:
        found: Floats = session.run([first], {name: values})[0]
        return found

    return run
