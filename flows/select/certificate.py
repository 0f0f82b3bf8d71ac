"""The certificate of a version: what its kept records cover of the pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from contracts.errors import DataError
from curation import _neighbours
from curation.certificate import certify
from flows.measure.runtime import Runtime
from flows.pool_reader import HOLDOUT
from flows.recipe.expressions import Expression
from flows.recipe.sections import CertificateSection
from flows.select.verdict import Verdict


def of(runtime: Runtime, verdict: Verdict, section: CertificateSection) -> dict[str, Any]:
    """Return the certificate as `result["certificate"]` has it; held-out records are no part of it.

    Raises:
        DataError: no kept record has a vector; vectors of different lengths; NaN or infinity.
    """
    rows = runtime.candidates({"vector": Expression(section.vector)}, runtime.visible)
    held, x = _neighbours.in_place(rows["vector"].alias(section.vector), zeros=False)
    rules = [result.name for result in verdict.results if result.name != HOLDOUT]
    fates = rows.select("uid").join(verdict.rows, on="uid", how="left", maintain_order="left")
    numbers = {name: number for number, name in enumerate(rules)}
    dropped_by = fates["dropped_by"].replace_strict(numbers, default=len(rules)).to_numpy()[held]
    if not (dropped_by == len(rules)).any():
        raise DataError(f"certificate: none of the kept records has a {section.vector}.")
    found = certify(
        x,
        rows["uid"].to_numpy()[held],
        dropped_by.astype(np.int64),
        rules=len(rules),
        sample=section.sample,
        subsets=section.subsets,
        seed=section.seed,
    )
    covers = asdict(found)
    by_rule = zip(rules, covers["rules"][1:], strict=True)
    return {
        "vector": section.vector,
        "without_vector": int((~held).sum()),
        **covers,
        "rules": [{"rule": name, **cover} for name, cover in by_rule],
    }


def text(found: Mapping[str, Any]) -> str:
    """Return one line of it."""
    sds = (found["value"] - found["random_value"]) / max(found["random_sd"], 1e-12)
    line = (
        f"certificate: on average a record of the pool has a kept one at cosine "
        f"{found['value']:.4f}; no as many records reach {found['bound']:.4f}, random ones "
        f"{found['random_value']:.4f} ({sds:+.1f} sd). Distinct records: {found['distinct']:.1f}, "
        f"random {found['random_distinct']:.1f}."
    )
    if found["without_vector"]:
        line += f" {found['without_vector']:,} records have no vector and are no part of it."
    return line
