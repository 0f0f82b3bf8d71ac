"""How often a hold-out was asked: every further question makes a chance answer likelier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.store import Store


def ask(store: Store, holdout: str, question: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Note a question where it is new, and return all that this hold-out was asked.

    A question is a set of records and a metric: asked again, with other seeds or on another
    machine, it is the same one.

    Args:
        store: under its lease.
        holdout: a digest of the held-out records that the answer rests on.
        question: `kept`, the content of the recipe's arm, and `metric`; beside them what tells a
            reader which it was.
    """
    name = holdout[:16]
    versions = store.versions("asked", name)
    known = [found for v in versions if (found := store.ref("asked", name, v)) is not None]
    if all(_of(one) != _of(question) for one in known):
        number = versions[-1] + 1 if versions else 1
        store.create_ref("asked", name, number, {**question, "holdout": holdout})
        known.append({**question, "holdout": holdout})
    return known


def _of(question: Mapping[str, Any]) -> tuple[str, str]:
    return question["kept"], question["metric"]
