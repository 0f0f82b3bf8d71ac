"""The first steps that are typed by instinct, each once, with what is printed.

Each test is a transcript: what a newcomer types, and what stands in the terminal then. Uids are
shown as UID where they are printed, bytes of disk and seconds as N.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import sys
import tarfile
from pathlib import Path

import nbformat
import nibabel
import numpy as np
import polars as pl
import pytest
from nbclient import NotebookClient
from PIL import Image

from tests.flows.command import Command, calling

CAPTIONS = (
    "a red bicycle against a wall", "two dogs on a beach", "a bowl of soup with bread",
    "sunset over the old harbour", "a red bicycle against a wall", "cat",
    "a child flying a kite in a park", "books on a wooden shelf",
)  # fmt: skip
KEYS = [f"{shard:05d}{i:04d}" for shard in range(2) for i in range(4)]
TEXTS = (
    "The harbour was quiet in the early morning.",
    "Bread is baked before the sun rises over the town.",
    "The harbour was quiet in the early morning.",
    "A train leaves the station every hour towards the mountains.",
    "",
)
MODULE = '''
import polars as pl
from winnow import Role, rowwise


@rowwise(version=1, reads={"text": Role(pl.String)}, writes={"ratio": pl.Float32})
def vowels(rows: pl.DataFrame) -> pl.DataFrame:
    """Share of the characters that are vowels."""
    found = pl.col("text").str.count_matches("[aeiou]")
    return rows.select(ratio=(found / pl.col("text").str.len_chars()).cast(pl.Float32))
'''


@pytest.fixture
def winnow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Call the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return calling(monkeypatch, capsys)


def printed(winnow: Command, transcript: str) -> str:
    """Type each line of a transcript that starts with `$`; return the transcript that this makes.

    A step that fails ends with its exit code. Errors and progress stand before the output.
    """
    lines = []
    for typed in re.findall(r"^\$ winnow ?(.*)$", transcript, re.M):
        code, out, err = winnow(*shlex.split(typed))
        text = (err + out).replace(f"{Path.cwd()}/", "")
        text = re.sub(r"\b(?=\w*\d)[0-9a-f]{16}\b", "UID", text)
        text = re.sub(r"[\d,]+ bytes needed, [\d,]+ free", "N bytes needed, N free", text)
        text = re.sub(r"[\d.]+ s, [\d,]+ bytes", "N s, N bytes", text)
        text = re.sub(r"^([a-z]+[.]\w+ .* all) +[\d.]+ +[\d,]+$", r"\1 N N", text, flags=re.M)
        lines.append(f"$ winnow {typed}".rstrip() + f"\n{text.rstrip()}\n")
        lines.append(f"exit code {code}\n" if code else "")
    return re.sub(r"[ ]+$", "", "".join(lines), flags=re.M)


def shown(transcript: str) -> str:
    """Run each cell of a transcript that starts with `In:` in a notebook; return what this makes.

    A cell that fails ends with its error.
    """
    cells = [
        nbformat.v4.new_code_cell(typed.replace("\n    ", "\n"))
        for typed in re.findall(r"^In: (.*(?:\n    .*)*)", transcript, re.M)
    ]
    resources = {"metadata": {"path": str(Path.cwd())}}
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=300, allow_errors=True, resources=resources).execute()
    lines = []
    for cell in notebook.cells:
        lines.append("In: " + cell.source.replace("\n", "\n    "))
        for output in cell.outputs:
            if output.output_type == "error":
                lines.append(f"{output.ename}: {output.evalue}")
            elif output.output_type == "execute_result":
                lines.append(output.data["text/plain"])
            else:
                lines.append(output.text.rstrip())
    return "\n".join(lines).replace(f"{Path.cwd()}/", "") + "\n"


def images() -> None:
    """Write two tars as img2dataset does, with its Parquet files; one picture is a web page."""
    Path("shards").mkdir()
    rng = np.random.default_rng(1)
    for shard in range(2):
        rows = []
        with tarfile.open(f"shards/{shard:05d}.tar", "w") as tar:
            for i, caption in enumerate(CAPTIONS[4 * shard :][:4]):
                buffer = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "JPEG")
                data = b"<html>404</html>" if (shard, i) == (1, 2) else buffer.getvalue()
                key = f"{shard:05d}{i:04d}"
                row = {"caption": caption, "url": f"https://pictures.example/{key}.jpg",
                       "key": key, "status": "success"}  # fmt: skip
                rows.append(row)
                for suffix, content in (("jpg", data), ("json", json.dumps(row).encode()),
                                        ("txt", caption.encode())):  # fmt: skip
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        pl.DataFrame(rows).write_parquet(f"shards/{shard:05d}.parquet")
        Path(f"shards/{shard:05d}_stats.json").write_text('{"count": 4}')


def texts() -> None:
    """Write five texts as JSON lines, and a sixth line that is broken."""
    rows = [{"text": t, "url": f"https://texts.example/{i}"} for i, t in enumerate(TEXTS)]
    Path("texts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows) + "{broken\n")


def volumes() -> None:
    """Write two volumes of six slices; the upper three of the first are one slice."""
    Path("scans").mkdir()
    rng = np.random.default_rng(2)
    for name in ("a.nii.gz", "b.nii.gz"):
        voxels = rng.integers(0, 3000, (24, 24, 6)).astype(np.int16)
        if name == "a.nii.gz":
            voxels[:, :, 3:] = voxels[:, :, 3:4]
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), f"scans/{name}")


TARS = """\
$ winnow
Nothing was run here yet. `winnow init FOLDER` writes a recipe, `winnow demo` shows it all.
$ winnow run
winnow: winnow.toml: there is no such recipe. `winnow init` writes one.
exit code 78
$ winnow init shards/
shards/: webdataset; of 8 records looked at 8 have a picture, 8 a text
winnow.toml is written. Next: winnow run winnow.toml
$ winnow run
ingest …
  shards: N bytes needed, N free
shards version 1: 8 read, 7 new, 0 known, 1 quarantined (1 NOT_AN_IMAGE)
  1 .tar NOT_AN_IMAGE: 00001.tar@8192
  listed by: winnow show shards --quarantined
annotate …
  annotate.pixels: 0 found, 7 to measure
  annotate.look: 0 found, 7 to measure
  annotate.caption_stats: 0 found, 7 to measure
  annotate.same_pixels: 0 found, 7 to measure
  annotate.alike: 0 found, 7 to measure
select …
export …
# open_clip 3.3 trains under webdataset 0.2.86 (pip install 'open_clip_torch[training]'); under 1.0 its reader ends in KeyError 'fname'.
python -m open_clip_train.main --dataset-type webdataset --train-data .winnow/shards/shards/v0001/00000.tar --train-num-samples 6 --workers 1 --batch-size 6
webdataset.WebDataset('.winnow/shards/shards/v0001/00000.tar', shardshuffle=False)
datasets.load_dataset('.winnow/shards/shards/v0001')
rule                    reached     dropped     left
all records                   7           0   100.0%
one of each picture           7           0   100.0%
one of each look              7           0   100.0%
has a caption                 7           1    85.7%
shards version 1: 6 of 7 records kept
export: .winnow/shards/shards/v0001
report: .winnow/reports/shards/v0001.html
$ winnow
shards version 1, pool shards@1
rule                    reached     dropped     left
all records                   7           0   100.0%
one of each picture           7           0   100.0%
one of each look              7           0   100.0%
has a caption                 7           1    85.7%
Next: `winnow why KEY`, `winnow show --dropped RULE`, `winnow report`.
$ winnow why https://pictures.example/000010001.jpg
UID  shards:00001.tar/000010001: dropped by has a caption
  passed      one of each picture: by one_per_cluster
  passed      one of each look: by one_per_cluster
  FAILED      has a caption: caption_stats.words >= 2  (caption_stats.words = 1)
$ winnow why 000010001
UID  shards:00001.tar/000010001: dropped by has a caption
  passed      one of each picture: by one_per_cluster
  passed      one of each look: by one_per_cluster
  FAILED      has a caption: caption_stats.words >= 2  (caption_stats.words = 1)
$ winnow why shards/00000.tar
winnow: shards/00000.tar: no record of pool shards@1, and nothing in its quarantine, has this uid, source id, source:id, URL, file name or content. It is a file of source shards, which was read as 4 records: name one of these.
exit code 65
$ winnow show shards --quarantined
suffix=.tar  reason=NOT_AN_IMAGE  count=1  examples=['00001.tar@8192']
$ winnow ingest shards/ --payload reference --pool by_reference
  shards: N bytes needed, N free
by_reference version 1: 8 read, 7 new, 0 known, 1 quarantined (1 NOT_AN_IMAGE)
  1 .tar NOT_AN_IMAGE: 00001.tar@8192
  listed by: winnow show by_reference --quarantined
"""  # noqa: E501 (a line as it is printed)
TEXT_LINES = """\
$ winnow run texts.jsonl
winnow: texts.jsonl: is not TOML: Invalid statement (at line 1, column 1). If it is data, `winnow init texts.jsonl` writes one.
exit code 78
$ winnow init texts.jsonl
texts.jsonl: json_lines; of 4 records looked at 0 have a picture, 4 a text
winnow.toml is written. Next: winnow run winnow.toml
$ winnow run
ingest …
  texts: N bytes needed, N free
texts version 1: 6 read, 4 new, 0 known, 2 quarantined (1 CAPTION_EMPTY, 1 JSON_INVALID)
  1 .jsonl CAPTION_EMPTY: texts.jsonl#4
  1 .jsonl JSON_INVALID: texts.jsonl#5
  listed by: winnow show texts --quarantined
annotate …
  annotate.digest_of_text: 0 found, 4 to measure
  annotate.minhash_signature: 0 found, 4 to measure
  annotate.same_text: 0 found, 4 to measure
  annotate.minhash_clusters: 0 found, 4 to measure
select …
export …
# open_clip and webdataset read tars: [export] format lacks "webdataset".
datasets.load_dataset('parquet', data_dir='.winnow/shards/texts/v0001/data')
rule                           reached     dropped     left
all records                          4           0   100.0%
one of each text                     4           1    75.0%
one of each near-duplicate           3           0    75.0%
texts version 1: 3 of 4 records kept
export: .winnow/shards/texts/v0001
report: .winnow/reports/texts/v0001.html
$ winnow why https://texts.example/0
UID  texts:texts.jsonl#0: dropped by one of each text
  FAILED      one of each text: by one_per_cluster
  not reached one of each near-duplicate: by one_per_cluster
  duplicate of UID (same_text, distance 0)
$ winnow why mine.txt
mine.txt: 2 records have this content
UID  texts:texts.jsonl#0: dropped by one of each text
  FAILED      one of each text: by one_per_cluster
  not reached one of each near-duplicate: by one_per_cluster
  duplicate of UID (same_text, distance 0)
UID  texts:texts.jsonl#2: kept
  passed      one of each text: by one_per_cluster
  passed      one of each near-duplicate: by one_per_cluster
  in .winnow/shards/texts/v0001/data/train-00000-of-00001.parquet
$ winnow why texts.jsonl
winnow: texts.jsonl: no record of pool texts@1, and nothing in its quarantine, has this uid, source id, source:id, URL, file name or content. It is a file of source texts, which was read as 6 records: name one of these.
exit code 65
$ winnow why nothing
winnow: nothing: no record of pool texts@1, and nothing in its quarantine, has this uid, source id, source:id, URL, file name or content.
exit code 65
"""  # noqa: E501 (a line as it is printed)
OWN = """\
$ winnow ingest shards/
  shards: N bytes needed, N free
shards version 1: 8 read, 7 new, 0 known, 1 quarantined (1 NOT_AN_IMAGE)
  1 .tar NOT_AN_IMAGE: 00001.tar@8192
  listed by: winnow show shards --quarantined
$ winnow run wrong.toml
annotate …
winnow: vectors.npy: none of its 8 source_id is among the 7 of the pool: it has '000000000', the pool '00000.tar/000000000'. These are ids without the name of their file: put it before them; those of tars are matched by key = "meta.key" too.
exit code 65
$ winnow run vectors.toml
annotate …
  embed.clip: 0 found, 7 to measure; 0 records without a row, 1 rows without a record
  fit.kmeans: 0 found, 1 to measure
  annotate.nearest_centroid: 0 found, 7 to measure
  annotate.semantic_duplicates: 0 found, 7 to measure
select …
rule                      reached     dropped     left
all records                     7           0   100.0%
one_per_neighbourhood           7           0   100.0%
vectors version 1: 7 of 7 records kept
report: .winnow/reports/vectors/v0001.html
$ winnow run method.toml
annotate …
  annotate.v: 0 found, 7 to measure
select …
rule              reached     dropped     left
all records             7           0   100.0%
v.ratio > 0.2           7           0   100.0%
method version 1: 7 of 7 records kept
report: .winnow/reports/method/v0001.html
$ winnow run dotted.toml
winnow: annotate.v: curation.annotate has no method 'mine.vowels'. vowels of a module mine is mine:vowels.
exit code 78
$ winnow run module.toml
annotate …
  annotate.v: 0 found, 7 to measure
select …
rule              reached     dropped     left
all records             7           0   100.0%
v.ratio > 0.2           7           0   100.0%
module version 1: 7 of 7 records kept
report: .winnow/reports/module/v0001.html
"""  # noqa: E501 (a line as it is printed)

VOLUMES = """\
$ winnow ingest scans/ --pool whole
  scans: N bytes needed, N free
whole version 1: 2 read, 2 new, 0 known, 0 quarantined
$ winnow init scans/
scans/: volumes; of 12 records looked at 12 have a picture, 0 a text
winnow.toml is written. Next: winnow run winnow.toml
$ winnow run
ingest …
  scans: N bytes needed, N free
scans version 1: 12 read, 12 new, 0 known, 0 quarantined
annotate …
  annotate.pixels: 0 found, 12 to measure
  annotate.redundant: 0 found, 12 to measure
  annotate.same_pixels: 0 found, 12 to measure
select …
export …
# open_clip trains on pictures with captions: these records have no captions.
webdataset.WebDataset('.winnow/shards/scans/v0001/00000.tar', shardshuffle=False)
datasets.load_dataset('.winnow/shards/scans/v0001')
10 pictures leave with 16 bits a channel: readers that convert to RGB by Pillow (open_clip, webdataset, datasets) show grey ones all white. `image = "png8"` in [export] writes them with 8 bits, as winnow shows them.
rule                             reached     dropped     left
all records                           12           0   100.0%
one of each picture                   12           2    83.3%
one of each look in a volume          10           0    83.3%
scans version 1: 10 of 12 records kept
export: .winnow/shards/scans/v0001
report: .winnow/reports/scans/v0001.html
$ winnow why a.nii.gz#4
UID  scans:a.nii.gz#4: dropped by one of each picture
  FAILED      one of each picture: by one_per_cluster
  not reached one of each look in a volume: by one_per_cluster
  duplicate of UID (same_pixels, distance 0)
$ winnow ingest scans/ --slices --pool by_hand
  scans: N bytes needed, N free
by_hand version 1: 12 read, 12 new, 0 known, 0 quarantined
"""  # noqa: E501 (a line as it is printed)
PARQUET = """\
$ winnow init rows.parquet
rows.parquet: parquet; of 4 records looked at 0 have a picture, 4 a text
winnow.toml is written. Next: winnow run winnow.toml
$ winnow run
ingest …
  rows: N bytes needed, N free
rows version 1: 5 read, 4 new, 0 known, 1 quarantined (1 CAPTION_EMPTY)
  1 .parquet CAPTION_EMPTY: rows.parquet#4
  listed by: winnow show rows --quarantined
annotate …
  annotate.digest_of_text: 0 found, 4 to measure
  annotate.minhash_signature: 0 found, 4 to measure
  annotate.same_text: 0 found, 4 to measure
  annotate.minhash_clusters: 0 found, 4 to measure
select …
export …
# open_clip and webdataset read tars: [export] format lacks "webdataset".
datasets.load_dataset('parquet', data_dir='.winnow/shards/rows/v0001/data')
rule                           reached     dropped     left
all records                          4           0   100.0%
one of each text                     4           1    75.0%
one of each near-duplicate           3           0    75.0%
rows version 1: 3 of 4 records kept
export: .winnow/shards/rows/v0001
report: .winnow/reports/rows/v0001.html
$ winnow ingest rows.parquet --id url --text text --pool by_hand
  rows: N bytes needed, N free
by_hand version 1: 5 read, 4 new, 0 known, 1 quarantined (1 CAPTION_EMPTY)
  1 .parquet CAPTION_EMPTY: rows.parquet#4
  listed by: winnow show by_hand --quarantined
"""
SCORES = """\
$ winnow run scores.toml --set annotate.mine.key=key
winnow: annotate.mine: key is uid, source_id, row or meta.<column> (got 'key'): is it meta.key?
exit code 78
$ winnow run scores.toml --dry-run
pool scores: not ingested yet

table                                   found   to measure   seconds          bytes
annotate.mine                               0          all N N

what a run leaves:
  rule                                        reached    dropped    left
  mine.score >= 0.3                                 7          3   57.1%

of the sample alone: N s, N bytes of notes; after `--until ingest` that of the whole
$ winnow
Nothing was run here yet. `winnow init FOLDER` writes a recipe, `winnow demo` shows it all.
$ winnow run scores.toml
ingest …
  shards: N bytes needed, N free
scores version 1: 8 read, 7 new, 0 known, 1 quarantined (1 NOT_AN_IMAGE)
  1 .tar NOT_AN_IMAGE: 00001.tar@8192
  listed by: winnow show scores --quarantined
annotate …
  annotate.mine: 0 found, 7 to measure; 0 records without a row, 1 rows without a record
select …
export …
# open_clip and webdataset read tars: [export] format lacks "webdataset".
# DataComp's resharder.py takes ids of 32 hexadecimal digits, which not all of these records have.
datasets.load_dataset('parquet', data_files='.winnow/shards/scores/v0001/uids.parquet')
rule                  reached     dropped     left
all records                 7           0   100.0%
mine.score >= 0.3           7           3    57.1%
scores version 1: 4 of 7 records kept
export: .winnow/shards/scores/v0001
report: .winnow/reports/scores/v0001.html
$ winnow why 9516cb4762c47c8d
UID  shards:00001.tar/000010000: kept
  passed      mine.score >= 0.3: mine.score >= 0.3  (mine.score = 0.4)
$ winnow run list.toml --dry-run
pool scores: 7 records

bound:
  select[0].source_id = source_id  (default)

table                                   found   to measure   seconds          bytes

what a run leaves of the pool as it is:
  rule                                        reached    dropped    left
  listed                                            7          3   57.1%

foreseen: N s, N bytes of notes
$ winnow run list.toml
annotate …
select …
rule            reached     dropped     left
all records           7           0   100.0%
listed                7           3    57.1%
list version 1: 4 of 7 records kept
report: .winnow/reports/list/v0001.html
$ winnow why 9516cb4762c47c8d --run list
UID  shards:00001.tar/000010000: kept
  passed      listed: by uid_list
$ winnow why cd9328fcf71fcd76
run list version 1, the last that was made; --run names another
UID  shards:00000.tar/000000000: dropped by listed
  FAILED      listed: by uid_list
"""
NOTEBOOK = """\
In: import winnow, polars as pl
In: @winnow.rowwise(version=1, reads={"text": winnow.Role(pl.String)}, writes={"n": pl.UInt32})
    def vowels(rows):
        return rows.select(n=pl.col("text").str.count_matches("[aeiou]"))
In: winnow.ingest("shards")["accepted"]
7
In: vowels(pl.DataFrame({"uid": [1], "text": ["a red bicycle"]}))["n"].to_list()
ConfigError: vowels: uid is Int64; it must be UInt64.
In: vowels(pl.DataFrame({"uid": [1], "text": ["a red bicycle"]}, {"uid": pl.UInt64, "text": str}))["n"][0]
4
In: winnow.run("few.toml")["kept"]
ConfigError: select[0].where: nothing is called 'vowels' (in 'vowels.n'). `winnow methods` lists what there is; a function of a notebook comes in by winnow.run(..., methods=[vowels]).
In: winnow.run("few.toml", methods=[vowels])["kept"]
5
In: winnow.run("few.toml", methods=[vowels], set=["select.0.where=vowels.n < 6"])["kept"]
1
In: winnow.open().run("few").why("00000.tar/000000000")[0]["dropped_by"]
'vowels.n < 6'
In: winnow.open().run("few").dropped("vowels.n < 6").collect()["source_id"].to_list()[:2]
['00000.tar/000000000', '00000.tar/000000001']
"""  # noqa: E501 (a line as it is printed)
REAL_DRAWINGS = """\
$ winnow init drawings
drawings: image_folder; of 22 records looked at 22 have a picture, 21 a text
winnow.toml is written. Next: winnow run winnow.toml
$ winnow run --dry-run
pool drawings: not ingested yet

bound:
  annotate.pixels.payload = image  (recipe)
  annotate.same_pixels.digest = pixels.digest  (recipe)
  select[0].cluster = same_pixels.cluster  (recipe)
  annotate.caption_stats.text = text  (namesake)

table                                   found   to measure   seconds          bytes
annotate.pixels                             0          all N N
annotate.caption_stats                      0          all N N
annotate.same_pixels                        0          all N N

what a run leaves:
  rule                                        reached    dropped    left
  one of each picture                              21          5   76.2%
  has a caption                                    16          4   57.1%

of the sample alone: N s, N bytes of notes; after `--until ingest` that of the whole
$ winnow run
ingest …
  drawings: N bytes needed, N free
drawings version 1: 22 read, 21 new, 0 known, 1 quarantined (1 TRUNCATED)
  1 .png TRUNCATED: half.png
  listed by: winnow show drawings --quarantined
annotate …
  annotate.pixels: 0 found, 21 to measure
  annotate.caption_stats: 0 found, 21 to measure
  annotate.same_pixels: 0 found, 21 to measure
select …
export …
# open_clip 3.3 trains under webdataset 0.2.86 (pip install 'open_clip_torch[training]'); under 1.0 its reader ends in KeyError 'fname'.
python -m open_clip_train.main --dataset-type webdataset --train-data .winnow/shards/drawings/v0001/00000.tar --train-num-samples 12 --workers 1 --batch-size 12
webdataset.WebDataset('.winnow/shards/drawings/v0001/00000.tar', shardshuffle=False)
datasets.load_dataset('.winnow/shards/drawings/v0001')
rule                    reached     dropped     left
all records                  21           0   100.0%
one of each picture          21           5    76.2%
has a caption                16           4    57.1%
drawings version 1: 12 of 21 records kept
export: .winnow/shards/drawings/v0001
report: .winnow/reports/drawings/v0001.html
$ winnow why drawings/horse-racing-dark-skin-tone.png
UID  drawings:horse-racing-dark-skin-tone.png: kept
  passed      one of each picture: by one_per_cluster
  passed      has a caption: caption_stats.words >= 2  (caption_stats.words = 5)
  in .winnow/shards/drawings/v0001/00000.tar
$ winnow why 442ca299b2938fe2
UID  drawings:snowboarder-dark-skin-tone.png: dropped by one of each picture
  FAILED      one of each picture: by one_per_cluster
  passed      has a caption: caption_stats.words >= 2  (caption_stats.words = 4)
  duplicate of UID (same_pixels, distance 0)
  [-here-] {+there+}: snowboarder: [-dark-] {+medium-dark+} skin tone
$ winnow why half.png
drawings:half.png: quarantined as TRUNCATED: chunk IDAT at 33 goes beyond the end at 300
$ winnow show --quarantined
suffix=.png  reason=TRUNCATED  count=1  examples=['half.png']
"""  # noqa: E501 (a line as it is printed)
REAL_TEXTS = """\
$ winnow init descriptions.jsonl
descriptions.jsonl: json_lines; of 80 records looked at 0 have a picture, 80 a text
winnow.toml is written. Next: winnow run winnow.toml
$ winnow run --dry-run
pool descriptions: not ingested yet

bound:
  annotate.digest_of_text.payload = text  (recipe)
  annotate.same_text.digest = digest_of_text.digest  (recipe)
  select[0].cluster = same_text.cluster  (recipe)
  select[1].cluster = minhash_clusters.cluster  (recipe)
  annotate.minhash_clusters.signature = minhash_signature.values  (default)
  annotate.minhash_signature.text = text  (namesake)

table                                   found   to measure   seconds          bytes
annotate.digest_of_text                     0          all N N
annotate.minhash_signature                  0          all N N
annotate.same_text                          0          all N N
annotate.minhash_clusters                   0          all N N

what a run leaves:
  rule                                        reached    dropped    left
  one of each text                                 80         13   83.8%
  one of each near-duplicate                       67          2   81.2%

of the sample alone: N s, N bytes of notes; after `--until ingest` that of the whole
$ winnow run
ingest …
  descriptions: N bytes needed, N free
descriptions version 1: 81 read, 80 new, 0 known, 1 quarantined (1 JSON_INVALID)
  1 .jsonl JSON_INVALID: descriptions.jsonl#80
  listed by: winnow show descriptions --quarantined
annotate …
  annotate.digest_of_text: 0 found, 80 to measure
  annotate.minhash_signature: 0 found, 80 to measure
  annotate.same_text: 0 found, 80 to measure
  annotate.minhash_clusters: 0 found, 80 to measure
select …
export …
# open_clip and webdataset read tars: [export] format lacks "webdataset".
datasets.load_dataset('parquet', data_dir='.winnow/shards/descriptions/v0001/data')
rule                           reached     dropped     left
all records                         80           0   100.0%
one of each text                    80          13    83.8%
one of each near-duplicate          67           2    81.2%
descriptions version 1: 65 of 80 records kept
export: .winnow/shards/descriptions/v0001
report: .winnow/reports/descriptions/v0001.html
$ winnow why mine.txt
mine.txt: 2 records have this content
UID  descriptions:descriptions.jsonl#60: dropped by one of each text
  FAILED      one of each text: by one_per_cluster
  not reached one of each near-duplicate: by one_per_cluster
  duplicate of UID (same_text, distance 0)
UID  descriptions:descriptions.jsonl#61: kept
  passed      one of each text: by one_per_cluster
  passed      one of each near-duplicate: by one_per_cluster
  in .winnow/shards/descriptions/v0001/data/train-00000-of-00001.parquet
$ winnow show --quarantined
suffix=.jsonl  reason=JSON_INVALID  count=1  examples=['descriptions.jsonl#80']
"""
REAL_VOLUMES = """\
$ winnow init volumes
volumes: volumes; of 70 records looked at 70 have a picture, 0 a text
winnow.toml is written. Next: winnow run winnow.toml
$ winnow run --dry-run
pool volumes: not ingested yet

bound:
  annotate.pixels.payload = image  (recipe)
  annotate.same_pixels.digest = pixels.digest  (recipe)
  annotate.redundant.group = series  (default)
  annotate.redundant.order = position  (default)
  annotate.redundant.image = image  (default)
  select[0].cluster = same_pixels.cluster  (recipe)
  select[1].cluster = redundant.cluster  (recipe)

table                                   found   to measure   seconds          bytes
annotate.pixels                             0          all N N
annotate.redundant                          0          all N N
annotate.same_pixels                        0          all N N

what a run leaves:
  rule                                        reached    dropped    left
  one of each picture                              70          0  100.0%
  one of each look in a volume                     70         18   74.3%

of the sample alone: N s, N bytes of notes; after `--until ingest` that of the whole
$ winnow run
ingest …
  volumes: N bytes needed, N free
volumes version 1: 71 read, 70 new, 0 known, 1 quarantined (1 SOURCE_TRUNCATED)
  1 .nii.gz SOURCE_TRUNCATED: cut.nii.gz
  listed by: winnow show volumes --quarantined
annotate …
  annotate.pixels: 0 found, 70 to measure
  annotate.redundant: 0 found, 70 to measure
  annotate.same_pixels: 0 found, 70 to measure
select …
export …
# open_clip trains on pictures with captions: these records have no captions.
webdataset.WebDataset('.winnow/shards/volumes/v0001/00000.tar', shardshuffle=False)
datasets.load_dataset('.winnow/shards/volumes/v0001')
30 pictures leave with 16 bits a channel: readers that convert to RGB by Pillow (open_clip, webdataset, datasets) show grey ones all white. `image = "png8"` in [export] writes them with 8 bits, as winnow shows them.
rule                             reached     dropped     left
all records                           70           0   100.0%
one of each picture                   70           0   100.0%
one of each look in a volume          70          18    74.3%
volumes version 1: 52 of 70 records kept
export: .winnow/shards/volumes/v0001
report: .winnow/reports/volumes/v0001.html
$ winnow why hippocampus_001.nii.gz#4
UID  volumes:hippocampus_001.nii.gz#4: kept
  passed      one of each picture: by one_per_cluster
  passed      one of each look in a volume: by one_per_cluster
  in .winnow/shards/volumes/v0001/00000.tar
$ winnow why volumes/hippocampus_001.nii.gz
winnow: volumes/hippocampus_001.nii.gz: no record of pool volumes@1, and nothing in its quarantine, has this uid, source id, source:id, URL, file name or content. It is a file of source volumes, which was read as 35 records: name one of these.
exit code 65
$ winnow why volumes/cut.nii.gz
volumes:cut.nii.gz: quarantined as SOURCE_TRUNCATED: ends inside a gzip stream
"""  # noqa: E501 (a line as it is printed)
REAL_TABLE = """\
$ winnow init questions.parquet
questions.parquet: parquet; of 61 records looked at 0 have a picture, 0 a text
  no column is known as one: name it in [[source]] of winnow.toml, text = "<column>"
winnow.toml is written. Next: winnow run winnow.toml
$ winnow run
ingest …
  questions: N bytes needed, N free
winnow: source questions: nothing of it can be used, and nothing of this ingest is visible. 61 NO_CONTENT, as questions.parquet#0: neither a payload nor a text. All of them: .winnow/held/questions/questions.jsonl. If a column is the text or the picture, name it: --text COLUMN or --image COLUMN, text = "COLUMN" in [[source]].
exit code 65
$ winnow run --set source.0.text=question --set source.0.id=id --dry-run
pool questions: not ingested yet

bound:
  annotate.digest_of_text.payload = text  (recipe)
  annotate.same_text.digest = digest_of_text.digest  (recipe)
  select[0].cluster = same_text.cluster  (recipe)
  select[1].cluster = minhash_clusters.cluster  (recipe)
  annotate.minhash_clusters.signature = minhash_signature.values  (default)
  annotate.minhash_signature.text = text  (namesake)

table                                   found   to measure   seconds          bytes
annotate.digest_of_text                     0          all N N
annotate.minhash_signature                  0          all N N
annotate.same_text                          0          all N N
annotate.minhash_clusters                   0          all N N

what a run leaves:
  rule                                        reached    dropped    left
  one of each text                                 60          0  100.0%
  one of each near-duplicate                       60          0  100.0%

of the sample alone: N s, N bytes of notes; after `--until ingest` that of the whole
$ winnow run --set source.0.text=question --set source.0.id=id
ingest …
  questions: N bytes needed, N free
questions version 1: 61 read, 60 new, 0 known, 1 quarantined (1 CAPTION_EMPTY)
  1 .parquet CAPTION_EMPTY: questions.parquet#60
  listed by: winnow show questions --quarantined
annotate …
  annotate.digest_of_text: 0 found, 60 to measure
  annotate.minhash_signature: 0 found, 60 to measure
  annotate.same_text: 0 found, 60 to measure
  annotate.minhash_clusters: 0 found, 60 to measure
select …
export …
# open_clip and webdataset read tars: [export] format lacks "webdataset".
datasets.load_dataset('parquet', data_dir='.winnow/shards/questions/v0001/data')
rule                           reached     dropped     left
all records                         60           0   100.0%
one of each text                    60           0   100.0%
one of each near-duplicate          60           0   100.0%
questions version 1: 60 of 60 records kept
export: .winnow/shards/questions/v0001
report: .winnow/reports/questions/v0001.html
$ winnow why nt-11884
UID  questions:nt-11884: kept
  passed      one of each text: by one_per_cluster
  passed      one of each near-duplicate: by one_per_cluster
  in .winnow/shards/questions/v0001/data/train-00000-of-00001.parquet
$ winnow show --quarantined
suffix=.parquet  reason=CAPTION_EMPTY  count=1  examples=['questions.parquet#60']
"""  # noqa: E501 (a line as it is printed)


def test_tars_of_img2dataset(winnow: Command):
    images()
    assert printed(winnow, TARS) == TARS


def test_texts(winnow: Command):
    texts()
    Path("mine.txt").write_text(TEXTS[0])
    assert printed(winnow, TEXT_LINES) == TEXT_LINES


def test_own_vectors_and_a_method_in_a_file_or_a_module_beside_the_recipe(winnow: Command):
    images()
    np.save("vectors.npy", np.random.default_rng(0).normal(size=(8, 4)).astype("f4"))
    Path("ids.txt").write_text("\n".join(KEYS))
    Path("mine.py").write_text(MODULE)
    Path("wrong.toml").write_text(
        'pool = "shards"\n[embed.clip]\nfile = "vectors.npy"\nids = "ids.txt"\nkey = "source_id"\n'
        '[[select]]\nby = "one_per_neighbourhood"\nthreshold = 0.95\n'
    )
    right = Path("wrong.toml").read_text().replace("source_id", "meta.key")
    Path("vectors.toml").write_text(right)
    for name, step in (
        ("method", "./mine.py:vowels"), ("dotted", "mine.vowels"), ("module", "mine:vowels"),
    ):  # fmt: skip
        Path(f"{name}.toml").write_text(
            f'pool = "shards"\n[annotate.v]\nstep = "{step}"\n[[select]]\nwhere = "v.ratio > 0.2"\n'
        )
    assert printed(winnow, OWN) == OWN


def test_volumes(winnow: Command):
    volumes()
    assert printed(winnow, VOLUMES) == VOLUMES


def test_parquet(winnow: Command):
    rows = {"text": TEXTS, "url": [f"https://texts.example/{i}" for i in range(len(TEXTS))]}
    pl.DataFrame(rows).write_parquet("rows.parquet")
    assert printed(winnow, PARQUET) == PARQUET


def test_own_scores_by_file_and_a_list_of_uids_out_and_in(winnow: Command):
    images()
    scores = "".join(f"{key},0.{i}\n" for i, key in enumerate(KEYS))
    Path("scores.csv").write_text(f"key,score\n{scores}")
    Path("scores.toml").write_text(
        '[[source]]\npath = "shards"\n'
        '[annotate.mine]\nfile = "scores.csv"\nkey = "meta.key"\n'
        '[[select]]\nwhere = "mine.score >= 0.3"\n[export]\nformat = ["uids"]\n'
    )
    Path("list.toml").write_text(
        'pool = "scores"\n[[select]]\nname = "listed"\nby = "uid_list"\n'
        'ids = ".winnow/shards/scores/v0001/uids.parquet"\n'
    )
    assert printed(winnow, SCORES) == SCORES


def test_a_method_in_a_cell_of_a_notebook(winnow: Command, monkeypatch: pytest.MonkeyPatch):
    images()
    Path("few.toml").write_text('pool = "shards"\n[[select]]\nwhere = "vowels.n > 6"\n')
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(Path.cwd() / name))
    assert shown(NOTEBOOK) == NOTEBOOK


@pytest.mark.data
def test_real_drawings_with_captions(winnow: Command, data: Path):
    Path("drawings").mkdir()
    wanted = (pl.col("vendor") == "noto") & pl.col("name").str.contains("snow|horse|skier")
    emoji = pl.read_parquet(data / "emoji" / "emoji.parquet").filter(wanted)
    for name, caption, image in emoji.select("name", "caption", "image").iter_rows():
        Path(f"drawings/{name}.png").write_bytes(image["bytes"])
        Path(f"drawings/{name}.txt").write_text(caption)
    Path("drawings/half.png").write_bytes(emoji["image"][0]["bytes"][:300])
    assert printed(winnow, REAL_DRAWINGS) == REAL_DRAWINGS


@pytest.mark.data
def test_real_texts(winnow: Command, data: Path):
    english = pl.read_parquet(data / "descriptions" / "descriptions.parquet").filter(lang="en")
    twice = english.filter(pl.col("text").is_duplicated())
    pl.concat([english.head(60), twice.head(20)]).write_ndjson("descriptions.jsonl")
    with Path("descriptions.jsonl").open("a") as file:
        file.write("{broken\n")
    Path("mine.txt").write_text(twice["text"][0])
    assert printed(winnow, REAL_TEXTS) == REAL_TEXTS


@pytest.mark.data
def test_real_volumes(winnow: Command, data: Path):
    Path("volumes").mkdir()
    *whole, cut = sorted((data / "hippocampus" / "images").glob("*.nii.gz"))[:3]
    for path in whole:
        shutil.copy(path, "volumes")
    Path("volumes/cut.nii.gz").write_bytes(cut.read_bytes()[:5000])
    assert printed(winnow, REAL_VOLUMES) == REAL_VOLUMES


@pytest.mark.data
def test_a_real_table_whose_text_has_a_name_of_its_own(winnow: Command, data: Path):
    questions = pl.read_parquet(data / "tables" / "wikitablequestions.parquet").head(60)
    empty = questions.tail(1).with_columns(id=pl.lit("none"), question=pl.lit(""))
    pl.concat([questions, empty]).write_parquet("questions.parquet")
    assert printed(winnow, REAL_TABLE) == REAL_TABLE
