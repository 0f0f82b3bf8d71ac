"""What the content of a table depends on: the keys under which it is found again.

A table over rows has one key: everything that its content depends on, its rows and inputs too.
What was made once is found by whoever needs the same.

A fit has two. Its pin says what the fit is whatever rows the pool has, and names the model that
runs use from then on: a pool that grows keeps its centroids, and new records are assigned to them,
until `winnow refit`. Its key names the model that these rows give, so that the same fit asked for
twice on the same rows is one object.

Held-out records enter the rows of a key, not a pin. Near-duplicates of the hold-out are found
before anything is held out, so `select.holdout` reads and makes tables by a runtime of its own,
in which every record is visible: its tables have other keys than the run's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from contracts.payload import KINDS
from flows.measure.encoders import encoder, scorer
from flows.pool_reader import Mask, PoolReader
from flows.recipe.plan import Node, files_given
from storage import tables
from storage.store import key_of


def fingerprint_of(
    node: Node, tables: Mapping[str, str], device: str | None, generation: int | None
) -> dict[str, Any]:
    """Return what a node's content depends on, apart from the pool's rows.

    Args:
        node: the node.
        tables: the digest of each of its further tables.
        device: where its encoder and scorers run.
        generation: how often its embedding was asked for anew; None where it never was.
    """
    content: dict[str, Any] = {
        "parameters": {
            k: list(v) if isinstance(v, tuple) else v for k, v in node.parameters.items()
        }
        | {k: path_hash(path) for k, path in files_given(node).items()},
        "roles": {role: e.text for role, e in sorted(node.roles.items())},
        "kind": node.kind,
    }
    if node.method is not None:
        content |= node.method.identity()
    if node.kind == "embed":
        content["fingerprint"] = encoder(node, device).fingerprint
        content |= {} if generation is None else {"measured_anew": generation}
    if node.file is not None:
        content |= {"file": file_hash(node.file), "key": node.key}
        if node.ids is not None:
            content["ids"] = file_hash(node.ids)
    content["slots"] = {
        slot: {"name": m.name, "fingerprint": scorer(node, slot, device).fingerprint}
        for slot, (m, _) in sorted(node.slots.items())
    }
    content["tables"] = dict(sorted(tables.items()))
    return content


def pin_key(
    node: Node, fingerprint: Mapping[str, Any], needs: Mapping[str, Any], pool: str, holdout: Any
) -> str:
    """Return what a fit is, whatever the pool's rows: it stays pinned while this stays.

    Args:
        node: the fit, or a table that one needs.
        fingerprint: as `fingerprint_of` returns it.
        needs: for each table that it reads the pin of it; of a fit the keys it was made under.
        pool: the pool's name.
        holdout: the recipe's [holdout].
    """
    return key_of(
        {
            "is": fingerprint,
            "needs": needs,
            "pool": pool,
            "gate": node.gate.text if node.gate is not None else None,
            "sample": node.sample,
            "holdout": None if holdout is None else repr(holdout),
        }
    )


def inputs_of(reader: PoolReader, node: Node, part: int) -> dict[str, str]:
    """Return the sha256 of every object that a node reads of a part."""
    at = reader.pool.parts[part]
    notes = reader.notes_at(part, node.paths)
    inputs: dict[str, str] = {}
    for path in node.paths:
        if path in notes:
            item, column = notes[path]
            inputs[path] = f"{item.sha256}:{column}"
        elif path in (*KINDS, "payload") and at.payload is not None:
            inputs[path] = at.payload.sha256
        else:
            wider = tables.widened_to(reader.store, at, path)
            inputs[path] = at.records.sha256 + (f":{wider}" if wider else "")
    inputs["uid"] = at.records.sha256
    return inputs


def packed(mask: Mask) -> bytes:
    """Return a mask as bits."""
    return np.packbits(mask).tobytes()


def mask_hash(mask: Mask | None) -> str | None:
    """Return a digest of which rows are let through, None for all of them."""
    if mask is None or bool(mask.all()):
        return None
    return hashlib.sha256(len(mask).to_bytes(8, "big") + packed(mask)).hexdigest()


def file_hash(path: Path) -> str:
    """Return a digest of a file, or of the files of a folder."""
    digest = hashlib.sha256()
    members = sorted(path.iterdir()) if path.is_dir() else [path]
    for member in members:
        with member.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def path_hash(path: Path) -> str:
    """Return a digest of a file, or of all that lies under a folder and how it is named there."""
    if not path.is_dir():
        return file_hash(path)
    members = sorted(member for member in path.rglob("*") if member.is_file())
    return key_of({str(m.relative_to(path)): file_hash(m) for m in members})
