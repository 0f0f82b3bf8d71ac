"""How many records share a caption, and how many the template that it is made from."""

from __future__ import annotations

from typing import Any

import polars as pl

from curation.step import Role, groupwise

# A number is digits and what joins them in dates, prices and sizes; a name is a capitalised word
# behind white space, one or several. Its sign is of no script and no text.
NUMBER = r"\p{N}+(?:[.,:/\-]\p{N}+)*"
NAMES = r"(?:\s\p{Lu}[\p{L}\p{M}\p{N}’'\-]*)+"
NAME_SIGN = "\ue000"
WORD_WITHOUT_CAPITAL = r"(?:^|\s)\p{Ll}"


def _forms(names: bool) -> tuple[pl.Expr, pl.Expr]:
    """Return what is the same of texts of one caption, and of one template."""
    text = pl.col("text").str.normalize("NFKC").str.replace_all(r"\s+", " ").str.strip_chars(" ")
    template = text.str.replace_all(NUMBER, "0")
    if names:
        masked = template.str.replace_all(NAMES, f" {NAME_SIGN}")
        says = template.str.contains(WORD_WITHOUT_CAPITAL)
        template = pl.when(says).then(masked).otherwise(template)
    return text.str.to_lowercase(), template.str.to_lowercase()


def _keys(rows: pl.DataFrame, *, names: bool) -> pl.Series:
    """Return the hashes of each text's caption and of its template."""
    # By two seeds, since a caption without numbers and names is its own template.
    hashes = [form.hash(seed) for seed, form in enumerate(_forms(names))]
    keyed = rows.select(pl.when(pl.col("text").is_not_null()).then(pl.concat_list(hashes)))
    return keyed.to_series()


def _folded(partials: pl.DataFrame, **_: Any) -> pl.DataFrame:
    # One of a caption's records may lack the capitals by which a name is masked.
    most = pl.max_horizontal("template_records", "records")
    counts = pl.col("records", "template_records").max()
    return partials.group_by("uid").agg(counts).with_columns(template_records=most).sort("uid")


@groupwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={"records": pl.UInt32, "template_records": pl.UInt32},
    keys=_keys,
    merge=_folded,
)
def caption_duplication(groups: pl.DataFrame, *, names: bool = True) -> pl.DataFrame:
    """Count the records of the same caption, and those of the same template.

    Two captions are the same after NFKC, in lower case and with each run of white space made one
    space. Their template is the caption with each number made 0 and, with `names`, each run of
    capitalised words made one sign, but the first word of the text and where no word lacks a
    capital: "Portrait of Ann Lee, 1987" and "Portrait of Bob, 2001" share one, "Blue Shirt For
    Men" is its own. Hashes of 64 bits stand for both.

    Reads:
        text: the caption.
    Args:
        names: whether runs of capitalised words are masked; in German, which capitalises nouns, a
            template says little with it.
    Reference: frequency as a sign of boilerplate: Gadre et al. 2023, DataComp, arXiv:2304.14108,
    and Schuhmann et al. 2022, LAION-5B, arXiv:2210.08402, describe such alt texts; the masking is
    winnow's own.
    Writes:
        records: that have this caption, itself among them; null where the text is null.
        template_records: that have its template, at least `records`; null likewise.
    Cost: O(characters), for the keys and again for each group; 24 bytes a record through disk, its
        text too.
    """
    # A group is of one caption or of one template: of the other it may have a part only.
    records, of_template = (
        pl.when(pl.col("text").is_not_null()).then(pl.len().over("group", form.hash(0)))
        for form in _forms(names)
    )
    return groups.select("uid", records=records, template_records=of_template).cast(
        pl.Schema({"uid": pl.UInt64, **caption_duplication.writes})
    )
