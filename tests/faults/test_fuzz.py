"""Nothing that comes from outside breaks what reads it; and what the fuzzer found, in words.

More than these few thousand inputs a target: `python -m tests.faults.fuzz TARGET --seconds 600`.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from bakehouse_serving.spool.frames import HEADER, MARKER, Record, frame, scan
from bakehouse_serving.spool.spool import _POSITION, Spool, _position_crc
from tests.faults.fuzz import TARGETS, target_application, target_cost, target_manifest
from tests.faults.fuzz.__main__ import main

pytest.importorskip("atheris", reason="atheris has wheels for Linux only")

# Inputs a target, so that each takes 2 to 4 s on one core; the start is half of it.
RUNS = {
    "decision": 2_500,
    "outcome": 2_500,
    "control": 8_000,
    "pointer": 4_000,
    "frames": 6_000,
    "spool": 1_000,
    "cost": 100,
    "manifest": 1_500,
    "application": 1_000,
}
PATIENCE_S = 120
ROOT = Path(__file__).parents[2]


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE_S,
        check=False,
        errors="replace",
    )


def test_every_target_is_run():
    assert RUNS.keys() == TARGETS.keys()


@pytest.mark.full
@pytest.mark.parametrize("target", TARGETS)
def test_no_input_breaks_what_reads_it(target):
    ended = fuzz(target, "--runs", str(RUNS[target]))
    shown = (ended.stdout + ended.stderr)[-6_000:]
    assert ended.returncode == 0, f"what broke it, and how to feed it again:\n{shown}"
    assert f"Done {RUNS[target]} runs" in ended.stderr, shown


@pytest.mark.full
@pytest.mark.parametrize("target", TARGETS)
def test_a_defect_that_is_put_into_the_product_is_found(target):
    ended = fuzz(target, "--planted", "--runs", "20000")
    shown = (ended.stdout + ended.stderr)[-3_000:]
    assert ended.returncode == 1, f"not found:\n{shown}"
    assert "broke a promise" in ended.stdout, shown


def test_what_broke_a_promise_is_shown_and_breaks_it_again_alone():
    ended = fuzz("frames", "--planted")
    assert "as base64: " in ended.stdout
    again = ended.stdout.split("again:")[1].split()
    assert again[:4] == ["python", "-m", "tests.faults.fuzz", "frames"]
    found = Path(again[4])
    assert fuzz("frames", str(found), "--planted").returncode == 1, "it fails alone, too"
    assert fuzz("frames", str(found)).returncode == 0, "and only because of what was planted"
    found.unlink()


@pytest.mark.parametrize("target", TARGETS)
def test_the_command_teaches_what_a_target_feeds_and_what_must_hold(target, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([target, "--help"])
    assert "Must hold:" in (said := capsys.readouterr().out), said
    assert "--corpus" in said


# --- that the seeds are what they are taken for: a fuzzer of refusals alone proves little


def test_the_seeds_of_bundles_load_and_of_pages_hold_applications(tmp_path):
    for seed in target_manifest.seeds()[:5]:
        text, content = target_manifest.made(json.loads(seed))
        (tmp_path / "manifest.json").write_bytes(text)
        (tmp_path / "arrays.npz").write_bytes(content)
        assert target_manifest.load_bundle(
            tmp_path, application="game", contract="c1", sha256=None
        ).version
    for at, seed in enumerate(target_application.seeds()[:2]):
        page = tmp_path / f"page{at}.py"
        page.write_text(
            target_application.HEAD + target_application.source(json.loads(seed)) + "\n"
        )
        target_application.works(target_application.load_application(str(page)).application)


# --- what was found


def test_finding_the_key_that_stands_twice_among_thousands_costs_what_its_bytes_cost():
    _, decide = target_cost.DOORS[0]
    target_cost.compare(
        decide, lambda size: b"{%s}" % target_cost.members(lambda at: "0", True, size).encode()
    )


def test_a_frame_whose_key_reaches_beyond_it_is_damage_and_takes_nothing_from_the_next():
    body = b"\x00" + struct.pack("<H", 40) + b"{}"
    length = struct.pack("<I", len(body))
    forged = HEADER.pack(MARKER, len(body), zlib.crc32(body, zlib.crc32(length))) + body
    after = Record(0, b"id", b'{"a": 1}')
    found = scan(forged + frame(after), sealed=True)
    assert found.records == [after]
    assert found.damaged == 1


@pytest.mark.parametrize("name", ["abc.log", "1.log", "1_0.log", "00000000000١.log", ".log"])
def test_a_file_of_a_strange_name_in_the_spools_folder_is_let_be(tmp_path, name):
    (tmp_path / name).write_bytes(b"not ours")
    spool = Spool(tmp_path, limit_bytes=1 << 20)
    spool.append([Record(0, b"k", b"v")])
    assert spool.read() == [Record(0, b"k", b"v")]
    assert (tmp_path / name).read_bytes() == b"not ours"
    spool.close()


def test_a_folder_where_the_next_segment_would_be_is_passed_over(tmp_path):
    (tmp_path / "000000000001.log").mkdir()
    spool = Spool(tmp_path, limit_bytes=1 << 20)
    spool.append([Record(0, b"k", b"v")])
    spool.close()
    again = Spool(tmp_path, limit_bytes=1 << 20)
    assert again.read() == [Record(0, b"k", b"v")]
    again.close()


def test_what_is_appended_is_read_although_a_power_cut_took_the_segments_before_it(tmp_path):
    # The position was kept and segments 4 to 6 were not: the reader stands beyond what is there.
    (tmp_path / "000000000003.log").write_bytes(frame(Record(0, b"old", b"published")))
    position = _POSITION.pack(6, 100, _position_crc(6, 100))
    (tmp_path / "published").write_bytes(position)
    spool = Spool(tmp_path, limit_bytes=1 << 20)
    assert spool.read() == []
    spool.append([Record(0, b"new", b"v")])
    assert spool.read() == [Record(0, b"new", b"v")]
    spool.close()


def test_a_gap_of_a_thousand_million_segments_is_stepped_over_at_once(tmp_path):
    first, last = Record(0, b"k", b"first"), Record(0, b"k", b"last")
    (tmp_path / "000000000001.log").write_bytes(frame(first))
    (tmp_path / "999999999999.log").write_bytes(frame(last))
    spool = Spool(tmp_path, limit_bytes=1 << 20)
    assert spool.read() + spool.read() == [first, last]
    spool.close()


def test_a_position_that_no_spool_ever_reached_is_not_believed(tmp_path):
    first = Record(0, b"k", b"v")
    (tmp_path / "000000000001.log").write_bytes(frame(first))
    farthest = (1 << 64) - 1
    position = _POSITION.pack(farthest, 0, _position_crc(farthest, 0))
    (tmp_path / "published").write_bytes(position)
    spool = Spool(tmp_path, limit_bytes=1 << 20)
    assert spool.read() == [first]
    spool.acknowledge()
    spool.close()
