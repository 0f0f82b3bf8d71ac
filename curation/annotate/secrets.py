"""Secrets in a text: keys and tokens of known services, private-key blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator

import polars as pl

from curation import _spans
from curation._spans import Mark
from curation.step import Role, rowwise

KINDS = {"keys": "key", "tokens": "token", "private_keys": "private_key"}
"""Columns of counts, and the kind that each counts."""

_W = r"[A-Za-z0-9_-]"
# Each begins with letters that the service put there to be found by.
_KEY = "|".join(
    (
        r"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}",  # AWS
        rf"AIza{_W}{{35}}",  # Google
        rf"sk-(?:ant|proj|svcacct|admin|or)-{_W}{{40,250}}",  # Anthropic, OpenAI, OpenRouter
        r"sk-[A-Za-z0-9]{48}",  # OpenAI, before 2024
        r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,250}",  # Stripe
        rf"SG\.{_W}{{22}}\.{_W}{{43}}",  # SendGrid
        r"key-[0-9a-f]{32}",  # Mailgun
        r"AGE-SECRET-KEY-1[0-9A-Z]{58}",
    )
)
_TOKEN = "|".join(
    (
        r"gh[pousr]_[A-Za-z0-9]{36,250}",  # GitHub
        r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
        rf"gl(?:pat|dt|rt|cbt|ptt|ft|soat)-{_W}{{20,250}}",  # GitLab
        rf"xox[abeoprs]-{_W}{{10,250}}",  # Slack
        rf"xapp-[0-9]-{_W}{{20,250}}",
        r"hf_[A-Za-z]{34}",  # Hugging Face
        r"npm_[A-Za-z0-9]{36}",
        rf"pypi-AgE{_W}{{50,500}}",
        r"dop_v1_[a-f0-9]{64}",  # DigitalOcean
        r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",  # Shopify
        rf"[0-9]{{8,10}}:AA{_W}{{33}}",  # Telegram
        rf"eyJ{_W}{{10,600}}\.eyJ{_W}{{10,4000}}\.{_W}{{10,800}}",  # JSON web token
    )
)
_BLOCK = "-----BEGIN [A-Z0-9 ]*PRIVATE KEY"
# Rust's engine says which texts have one; Python's says where, and possessively, so that it cannot
# go back either.
_SOUGHT = re.sub(r"(\{\d+),\d+\}", r"\1,}", f"{_BLOCK}|{_KEY}|{_TOKEN}")
_FORMS = re.sub(r"(\{\d+,\d+\})", r"\1+", f"(?P<key>{_KEY})|(?P<token>{_TOKEN})")
_KNOWN = re.compile(rf"(?:{_FORMS})(?!{_W})".encode())
_WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-")
_BEGIN = re.compile(rb"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(rb"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_BASE64 = re.compile(rb"(?:(?:\s|\\[nr]){0,4}+[A-Za-z0-9+/=]{16,80}+)*+")
_BLOCK_BYTES = 2**16


@rowwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={**dict.fromkeys(KINDS, pl.UInt32), "spans": _spans.MARKS},
)
def secrets(rows: pl.DataFrame) -> pl.DataFrame:
    """Mark keys, tokens and private-key blocks by the forms that their issuers gave them.

    A key or token begins as those of its service do (AWS, Google, Anthropic, OpenAI, OpenRouter,
    Stripe, SendGrid, Mailgun, age; GitHub, GitLab, Slack, Hugging Face, npm, PyPI, DigitalOcean,
    Shopify, Telegram, JSON web tokens), has their length, and no letter, digit, `_` or `-` before
    or behind it. A private-key block goes from BEGIN to END; without an END as far as its base64
    goes.

    It does not see passwords and secrets without such a form, an AWS secret access key among
    them. Known false hits: keys that manuals print as examples.

    Reads:
        text: what is searched.
    Reference: RFC 7468 section 10 (private-key blocks), RFC 7519 (JSON web tokens); forms: what
        each service documents.
    Writes:
        keys: spans of the kind `key`; null for a null text, as all columns.
        tokens: of the kind `token`.
        private_keys: of the kind `private_key`.
        spans: `kind`, and `start` and `end` in characters; ascending, none overlaps another.
    Cost: linear; some 300 MB/s where there is none.
    """
    text = rows["text"]
    # A few texts have any.
    return _spans.marked(text.set(~text.str.contains(_SOUGHT), ""), _found, KINDS)


def _found(data: bytes) -> list[Mark]:
    return _spans.apart([*_blocks(data), *_known(data)])


def _known(data: bytes) -> Iterator[Mark]:
    for found in _KNOWN.finditer(data):
        assert found.lastgroup is not None
        if found.start() and data[found.start() - 1] in _WORD:
            continue
        yield Mark(*found.span(), found.lastgroup)


def _blocks(data: bytes) -> Iterator[Mark]:
    for found in _BEGIN.finditer(data):
        dashes = data.find(b"-----", found.end(), found.end() + _BLOCK_BYTES)
        last = _END.match(data, dashes) if dashes >= 0 else None
        if last is None or b"\0" in data[found.end() : dashes]:
            last = _BASE64.match(data, found.end())
        assert last is not None
        yield Mark(found.start(), last.end(), "private_key")
