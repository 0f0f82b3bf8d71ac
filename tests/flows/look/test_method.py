from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ConfigError
from flows.look import method

HERE = Path()
ALL = [(item["folder"], item["name"]) for item in method.listed()]


def _described(name: str) -> dict[str, Any]:
    return method.described(name, HERE)


@pytest.mark.parametrize(("folder", "name"), ALL)
def test_every_method_is_described_with_its_parameters_and_their_defaults(folder: str, name: str):
    about = _described(f"{folder.rpartition('.')[2]}.{name}")
    assert (about["folder"], about["name"]) == (folder, name)
    schema = method.schema(f"{folder.rpartition('.')[2]}.{name}", HERE).get("properties", {})
    assert [p["parameter"] for p in about["parameters"]] == list(schema)
    assert about["doc"]
    said = method.text(about)
    assert said.splitlines()[0].startswith(f"{name}: ")
    for parameter in about["parameters"]:
        assert any(
            line.split()[:1] == [parameter["parameter"]] and line.endswith(parameter["default"])
            for line in said.splitlines()
        )


def test_each_kind_of_method_shows_what_it_is_given():
    near = _described("nearest_centroid")
    assert (near["kind"], near["version"]) == ("rowwise", 1)
    assert near["roles"] == [
        {"role": "vector", "type": "Array or List", "default": "bind it to a column"}
    ]
    (table,) = near["tables"]
    assert (table["columns"], table["default"]) == ("centroid, vector", "fit.kmeans")
    assert near["writes"][0] == {"column": "centroid", "type": "UInt32"}
    words = _described("caption_stats")
    assert words["roles"] == [{"role": "text", "type": "String", "default": "text"}]
    optional = {role["role"]: role["default"] for role in _described("top")["roles"]}
    assert optional == {"score": "bind it to a column"}
    encoder = _described("hashed_ngrams")
    assert (encoder["kind"], encoder["roles"]) == ("encoder", [{"role": "text", "default": "text"}])
    assert [i["input"] for i in _described("clip")["inputs"]] == ["image_encoder", "text_encoder"]
    assert [i["is"] for i in _described("knn")["inputs"]] == [
        "one half of the labelled records, to learn from",
        "the other half; no group of records is in both",
    ]
    source = {p["parameter"]: p["default"] for p in _described("webdataset")["parameters"]}
    assert (source["path"], source["payload"], source["id"]) == ("required", '"copy"', "none")


def test_types_of_parameters_are_words():
    types = {p["parameter"]: p["type"] for p in _described("minhash_clusters")["parameters"]}
    assert types == {
        "threshold": "number >= 0 <= 1", "bands": "integer >= 1 or none",
        "verify": '"none" | "estimate" | "text"', "ngram": "integer >= 1",
        "unit": '"word" | "char"',
    }  # fmt: skip


def test_the_lines_of_a_description():
    assert method.text(_described("random_sample")).splitlines()[:7] == [
        "random_sample: selector, version 1",
        _described("random_sample")["doc"].splitlines()[0],
        "",
        "roles",
        "  role         type                default",
        "  probability  Float32 or Float64  may be left out",
        "",
    ]


def test_one_s_own_method_is_described_and_a_plain_function_is_told_what_it_lacks(tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "import polars as pl\nfrom winnow import Role, rowwise\n\n"
        "def plain(rows, *, of='!'):\n    return rows\n\n"
        "@rowwise(version=3, reads={'text': Role(pl.String)}, writes={'n': pl.UInt32})\n"
        "def counted(rows: pl.DataFrame, *, of: str = '!') -> pl.DataFrame:\n"
        "    '''Count.'''\n    return rows\n"
    )
    about = method.described("./mine.py:counted", tmp_path)
    assert (about["kind"], about["version"]) == ("rowwise", 3)
    assert about["parameters"] == [{"parameter": "of", "type": "string", "default": '"!"'}]
    with pytest.raises(ConfigError, match=r"without a contract: write @rowwise\(version=1, reads="):
        method.described("./mine.py:plain", tmp_path)
    with pytest.raises(ConfigError, match="is no method of curation, but module"):
        method.described("./mine.py:pl", tmp_path)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("minhash", "minhash_clusters, minhash_signature"), ("exact", "exact_clusters"),
        ("hash", "content_hash, perceptual_hash"), ("kmean", "kmeans"), ("protocols.knnn", "knn"),
    ],
)  # fmt: skip
def test_a_name_that_there_is_not_is_answered_with_the_nearest(name: str, nearest: str):
    with pytest.raises(ConfigError, match=rf"there is no method '{name}'\. Nearest: {nearest}"):
        _described(name)
