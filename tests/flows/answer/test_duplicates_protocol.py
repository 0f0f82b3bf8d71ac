from __future__ import annotations

from typing import Any

import pytest

from contracts.errors import ConfigError

RECIPE = """
[[source]]
path = "texts.jsonl"
id = "id"
[annotate.content]
step = "content_hash"
payload = "text"
[annotate.same]
step = "exact_clusters"
digest = "content.digest"
[[evaluate]]
protocol = "duplicates"
cluster = "same.cluster"
label = "meta.label"
"""


def _write(project: Any) -> None:
    # Of label x four are equal, of y two of three, z is alone; one is not labelled.
    rows = [("x", "a")] * 4 + [("y", "b")] * 2 + [("y", "c"), ("z", "a"), (None, "b")]
    project.lines(
        "texts.jsonl",
        [{"id": f"r{i}", "text": text, "label": label} for i, (label, text) in enumerate(rows)],
    )


def test_clusters_of_the_pool_are_scored_against_its_labels_without_an_encoder(project: Any):
    _write(project)
    found = project.run(RECIPE, until="evaluate")["duplicates"]
    (name,) = found
    assert name == "same.cluster, meta.label"
    # Joined: the 10 pairs of five a, one of b; right: 6 and 1. The same: 6 and 3.
    assert found[name]["precision"]["value"] == pytest.approx(7 / 11)
    assert found[name]["recall"]["value"] == pytest.approx(7 / 9)
    assert found[name]["precision"]["n"] == 11


def test_a_record_in_no_cluster_is_alone(project: Any):
    _write(project)
    gated = RECIPE.replace(
        'step = "exact_clusters"', 'step = "exact_clusters"\nonly = "text = \'a\'"'
    )
    found = project.run(gated, until="evaluate")["duplicates"]["same.cluster, meta.label"]
    assert found["recall"]["value"] == pytest.approx(6 / 9)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('label = "meta.label"', r"evaluate\[0\]\.label: duplicates needs a label"),
        ('cluster = "same.cluster"', r"evaluate\[0\]\.cluster: duplicates compares clusters"),
    ],
)
def test_what_it_compares_must_be_named(project: Any, wrong: str, message: str):
    _write(project)
    with pytest.raises(ConfigError, match=message):
        project.run(RECIPE.replace(wrong, ""))


def test_an_encoder_to_evaluate_must_be_trained(project: Any):
    _write(project)
    probe = (
        '[holdout]\nratio = 0.5\nby_group = "meta.label"\n[[evaluate]]\nprotocol = "retrieval"\n'
    )
    with pytest.raises(ConfigError, match=r"evaluate: needs \[pretrain\]"):
        project.run(RECIPE + probe)
