"""Stated licences: what is surely one gets its SPDX name, what is not gets none."""

from __future__ import annotations

import polars as pl
import pytest

from contracts.errors import ConfigError
from curation.annotate.licence import licence

READ = {
    "mit": "MIT",
    " The MIT License ": "MIT",
    "MIT OR apache-2.0": "MIT OR Apache-2.0",
    "(MIT/Apache-2.0)": "MIT OR Apache-2.0",
    "MIT and (gpl-2.0 or BSD-3-Clause)": "MIT AND (GPL-2.0-only OR BSD-3-Clause)",
    "GPL-2.0+": "GPL-2.0-or-later",
    "GPL-2.0-only with Classpath-exception-2.0": "GPL-2.0-only WITH Classpath-exception-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "BSD 3-Clause": "BSD-3-Clause",
    "CC BY 4.0": "CC-BY-4.0",
    "Creative Commons Attribution-ShareAlike 3.0 Unported": "CC-BY-SA-3.0",
    "cc0": "CC0-1.0",
    "odc-by": "ODC-By-1.0",
    "https://creativecommons.org/licenses/by/4.0/": "CC-BY-4.0",
    "http://www.creativecommons.org/licenses/by-nc-sa/2.0/deed.en": "CC-BY-NC-SA-2.0",
    "creativecommons.org/licenses/by/3.0/us/": "CC-BY-3.0-US",
    "//creativecommons.org/publicdomain/zero/1.0/legalcode": "CC0-1.0",
    "https://creativecommons.org/publicdomain/mark/1.0/": "CC-PDM-1.0",
    "https://opensource.org/licenses/MIT": "MIT",
    "https://spdx.org/licenses/GPL-3.0.html": "GPL-3.0-only",
    "https://creativecommons.org/licenses/by/4.0/?ref=chooser-v1": "CC-BY-4.0",
    "Apache-2.0/MIT": "Apache-2.0 OR MIT",
    "https://www.apache.org/licenses/LICENSE-2.0": "Apache-2.0",
}
NOT_READ = [
    "CC BY",  # seven versions
    "Apache",
    "GNU General Public License v3.0",  # only, or any later
    "https://creativecommons.org/licenses/by/2.5/xx/",
    "https://creativecommons.org/licenses/by/4.0/ but not for sale",
    "https://creativecommons.org/licenses/by/4.0x/",
    "https://opensource.org/no/MIT",
    "Apache-2.0 WITH Commons-Clause",  # no exception but a restriction
    "MIT 非商用",
    "MIT?",
    "https://creativecommons.org/licenses/by/9.0/",
    "https://example.com/licenses/by/4.0/",
    "MIT OR proprietary",
    "MIT Apache-2.0",
    "all rights reserved",
    "public domain",
    "",
    "مجاني",
    "\u200b",
    "(" * 400 + "MIT" + ")" * 400,
    "MIT " * 200,
    "x" * 10_000_000,
    None,
]


def table(*licences: str | None, **columns: list[str | None]) -> pl.DataFrame:
    uids = pl.int_range(len(licences), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uids, "licence": pl.Series(licences, dtype=pl.String), **columns})


def test_names_expressions_and_addresses_get_spdx_names_and_what_is_not_sure_none():
    found = licence(table(*READ, *NOT_READ))
    assert dict(zip(READ, found["spdx"], strict=False)) == READ
    rest = found["spdx"].to_list()[len(READ) :]
    assert dict(zip(NOT_READ, rest, strict=True)) == dict.fromkeys(NOT_READ)
    assert found["allowed"].is_null().to_list() == found["spdx"].is_null().to_list()


@pytest.mark.parametrize(
    ("stated", "allowed"),
    [
        ("CC-BY-4.0", True),
        ("CC-BY-3.0", False),
        ("CC-BY-NC-4.0", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND CC-BY-4.0", True),
        ("MIT WITH Classpath-exception-2.0", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("(MIT OR GPL-3.0-only) AND CC-BY-4.0", True),
        ("unknown", None),
    ],
)
def test_an_expression_is_allowed_by_one_side_of_or_and_both_of_and(stated: str, allowed: bool):
    assert licence(table(stated), allow=["MIT", "CC-BY-4.0"])["allowed"].item() is allowed


def test_licences_are_allowed_by_identifiers_in_any_case_and_by_old_ones():
    stated = table("MIT", "GPL-2.0-only", "GPL-2.0-or-later")
    assert licence(stated, allow=["mit", "GPL-2.0"])["allowed"].to_list() == [True, True, False]


def test_an_identifier_that_spdx_lacks_is_refused_when_the_recipe_is_read():
    with pytest.raises(ConfigError, match=r"'CC-BY-4' is no SPDX identifier.*CC-BY-4.0"):
        licence.bind(allow=["CC-BY-4"]).writes  # noqa: B018


def test_credit_names_what_is_there_and_is_null_without_a_creator_or_a_licence():
    rows = table(
        "CC BY 4.0", "CC BY 4.0", "CC BY 4.0", "none",
        creator=["Ada", "Ada", None, "Ada"],
        title=["A mill", None, "A mill", "A mill"],
        url=["https://a.example/1", None, None, None],
    )  # fmt: skip
    assert licence(rows)["attribution"].to_list() == [
        '"A mill" by Ada (https://a.example/1), CC-BY-4.0', "by Ada, CC-BY-4.0", None, None
    ]  # fmt: skip
    assert licence(rows.drop("creator"))["attribution"].null_count() == 4
