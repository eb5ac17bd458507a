from __future__ import annotations

import json
import os
import struct
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bakehouse_schemas.application.actions import Actions, Continuous
from bakehouse_schemas.application.application import Discrete
from bakehouse_schemas.errors import SpoolFull
from bakehouse_serving.hot.idempotency import AnotherSubject, CachedAnswer, IdempotencyCache
from bakehouse_serving.spool.folder_lock import lock_orphans, lock_own_folder
from bakehouse_serving.spool.frames import Record, Topic, frame, scan
from bakehouse_serving.spool.fsync import FsyncThread
from bakehouse_serving.spool.spool import Spool

records = st.lists(
    st.builds(Record, st.sampled_from([0, 1, 2]), st.binary(max_size=40), st.binary(max_size=300)),
    max_size=30,
)
quickly = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
MIB = 1 << 20


def event(number: int, size: int = 100) -> Record:
    return Record(Topic.DECISIONS, b"key-%d" % number, b"%d " % number + b"x" * size)


def read_all(spool: Spool) -> list[Record]:
    found: list[Record] = []
    while more := spool.read():
        found += more
    return found


@given(records)
def test_what_is_framed_is_scanned_back(given_records: list[Record]) -> None:
    data = b"".join(map(frame, given_records))
    assert scan(data, sealed=True) == (given_records, len(data), 0)


@given(records, st.integers(0, 10_000))
def test_a_torn_tail_costs_only_the_record_that_was_being_written(
    given_records: list[Record], cut: int
) -> None:
    frames = [frame(record) for record in given_records]
    data = b"".join(frames)[:cut]
    whole = 0
    while whole < len(frames) and sum(map(len, frames[: whole + 1])) <= cut:
        whole += 1
    found = scan(data)
    assert found.records == given_records[:whole]
    assert found.end == sum(map(len, frames[:whole]))


def test_a_damaged_record_is_skipped_and_counted_and_those_after_it_are_read() -> None:
    frames = [frame(event(number)) for number in range(5)]
    damaged = bytearray(b"".join(frames))
    at = len(frames[0]) + 20
    damaged[at] ^= 0xFF
    found = scan(bytes(damaged), sealed=True)
    assert found.records == [event(0), event(2), event(3), event(4)]
    assert found.damaged == 1


def test_a_record_whose_length_is_damaged_does_not_take_others_with_it() -> None:
    frames = [frame(event(number)) for number in range(4)]
    damaged = bytearray(b"".join(frames))
    damaged[len(frames[0]) + 2] ^= 0x7F  # the length field
    found = scan(bytes(damaged), sealed=True)
    assert found.records == [event(0), event(2), event(3)]
    assert found.damaged == 1


@quickly
@given(st.lists(records, max_size=8), st.integers(1, 7))
def test_everything_appended_is_read_once_in_order(appended: list[list[Record]], most: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), limit_bytes=MIB)
        found: list[Record] = []
        for batch in appended:
            spool.append(batch)
            found += spool.read(most)
        while more := spool.read(most):
            found += more
        assert found == [record for batch in appended for record in batch]
        spool.acknowledge()
        assert spool.drained
        spool.close()


def test_a_killed_process_loses_nothing_that_was_not_acknowledged(tmp_path: Path) -> None:
    first = Spool(tmp_path, limit_bytes=MIB)
    first.append([event(0), event(1), event(2)])
    assert first.read(2) == [event(0), event(1)]
    first.acknowledge()
    assert first.read(1) == [event(2)]  # in flight when the process dies: no close
    second = Spool(tmp_path, limit_bytes=MIB)
    assert second.recovered == 1
    second.append([event(3)])
    assert read_all(second) == [event(2), event(3)]
    first.close()
    second.close()


def test_a_frame_that_a_killed_process_had_begun_is_cut_off_at_the_next_start(
    tmp_path: Path,
) -> None:
    first = Spool(tmp_path, limit_bytes=MIB)
    first.append([event(0), event(1)])
    first.close()
    [segment] = tmp_path.glob("*.log")
    whole = segment.stat().st_size
    with segment.open("ab") as file:
        file.write(frame(event(2))[:-5])
    second = Spool(tmp_path, limit_bytes=MIB)
    assert segment.stat().st_size == whole
    assert second.damaged == 1
    second.append([event(3)])
    assert read_all(second) == [event(0), event(1), event(3)]
    second.close()


def test_records_larger_than_one_read_are_read_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit_bytes=64 * MIB)
    large = [event(number, size=5 * MIB // 2) for number in range(3)]
    spool.append(large)
    spool.append([event(9)])
    assert read_all(spool) == [*large, event(9)]
    spool.close()


def test_a_full_spool_refuses_whole_batches_and_takes_more_once_kafka_has_some(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, limit_bytes=64 << 10)
    written = 0
    with pytest.raises(SpoolFull):
        while True:
            spool.append([event(written, 1000), event(written + 1, 1000)])
            written += 2
    assert spool.bytes_on_disk <= 64 << 10
    spool.append([event(-1)], always=True)  # a person's word is never refused
    assert len(read_all(spool)) == written + 1
    spool.acknowledge()
    spool.append([event(written, 1000)])
    assert read_all(spool) == [event(written, 1000)]
    assert spool.bytes_on_disk < 64 << 10
    spool.close()


def test_published_segments_are_kept_until_the_broker_has_surely_flushed(tmp_path: Path) -> None:
    now = [1_000_000.0]
    spool = Spool(tmp_path, limit_bytes=1 << 20, keep_s=60, clock=lambda: now[0])
    for number in range(500):
        spool.append([event(number, 1000)])
    read_all(spool)
    segments = sorted(tmp_path.glob("*.log"))
    assert len(segments) > 2
    for segment in segments:
        os.utime(segment, (now[0], now[0]))
    now[0] += 59
    spool.acknowledge()
    assert sorted(tmp_path.glob("*.log")) == segments
    now[0] += 2
    spool.acknowledge()
    assert sorted(tmp_path.glob("*.log")) == segments[-1:]
    spool.close()


def test_after_a_power_cut_everything_kept_is_published_again(tmp_path: Path) -> None:
    first = Spool(tmp_path, limit_bytes=MIB)
    first.append([event(0), event(1)])
    read_all(first)
    first.acknowledge()
    first.close()
    again = Spool(tmp_path, limit_bytes=MIB, replay=True)
    assert read_all(again) == [event(0), event(1)]
    again.close()


def test_what_was_read_and_not_acknowledged_is_read_again_after_a_rewind(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit_bytes=MIB)
    spool.append([event(0), event(1)])
    spool.read(1)
    spool.rewind()
    assert spool.waiting == 2
    assert read_all(spool) == [event(0), event(1)]
    spool.close()


def test_a_restart_finds_its_own_spool_and_running_processes_keep_theirs(tmp_path: Path) -> None:
    first, second = lock_own_folder(tmp_path), lock_own_folder(tmp_path)
    assert (first.process, second.process) == ("0", "1")
    first.release()
    again = lock_own_folder(tmp_path)
    assert again.process == "0"
    assert not again.rebooted
    assert lock_orphans(tmp_path) == []
    second.release()
    [orphan] = lock_orphans(tmp_path)
    assert orphan.process == "1"
    orphan.release(remove=True)
    assert not (tmp_path / "1").exists()
    again.release()


LABELS = Discrete("easy", "normal", "hard")
ID = "01a2049e-42c7-7d62-9bb0-6bd913994345"
WHO = "p1"
GIVEN = CachedAnswer("hard", 1 / 3, 7, "online", "policy", True, True)


def test_an_answer_is_remembered_bit_for_bit_and_after_a_restart(tmp_path: Path) -> None:
    memory = IdempotencyCache(LABELS, folder=tmp_path, span_s=600)
    memory.put(ID, WHO, 2, GIVEN)
    assert memory.get(ID, WHO) == GIVEN
    memory.flush()  # no close: the process is killed here
    assert IdempotencyCache(LABELS, folder=tmp_path, span_s=600).get(ID, WHO) == GIVEN
    memory.close()


def test_an_answer_is_given_again_to_its_own_subject_alone_also_after_a_restart(
    tmp_path: Path,
) -> None:
    memory = IdempotencyCache(LABELS, folder=tmp_path, span_s=600)
    memory.put(ID, WHO, 2, GIVEN)
    memory.close()
    for one in (memory, IdempotencyCache(LABELS, folder=tmp_path, span_s=600)):
        assert one.get(ID, WHO) == GIVEN
        for other in ("p2", "", "P1", "p1 "):
            with pytest.raises(AnotherSubject, match=ID):
                one.get(ID, other)


NUMBERS = Continuous(low=(0.0, 0.0), high=(1.0, 1.0))


@pytest.mark.parametrize(
    ("actions", "action"), [(LABELS, "hard"), (NUMBERS, [0.25, 0.75])], ids=["labels", "numbers"]
)
def test_answers_that_the_last_release_kept_without_their_subject_go_on(
    tmp_path: Path, actions: Actions, action: Any
) -> None:
    packed = struct.pack("<dIHBB", 1 / 3, 7, 2, 0, 3)  # as it wrote them
    if actions is NUMBERS:
        packed += json.dumps(action).encode()
    key = bytes.fromhex(ID.replace("-", ""))
    length = struct.pack("<I", len(packed)) if actions is NUMBERS else b""
    log = length + key + packed + struct.pack("<I", zlib.crc32(key + packed))
    (tmp_path / "00000000000000000001.answers").write_bytes(log)
    memory = IdempotencyCache(actions, folder=tmp_path, span_s=600)
    assert memory.get(ID, WHO) == GIVEN._replace(action=action)
    spooled = {**GIVEN._asdict(), "action": action, "decision_id": ID, "subject_id": WHO}
    memory.recover([spooled])  # what the spool still says of the subject counts
    with pytest.raises(AnotherSubject):
        memory.get(ID, "p2")
    assert memory.get(ID, WHO) == GIVEN._replace(action=action)
    memory.close()


def test_a_torn_answer_in_the_log_is_no_answer(tmp_path: Path) -> None:
    memory = IdempotencyCache(LABELS, folder=tmp_path, span_s=600)
    memory.put(ID, WHO, 2, GIVEN)
    other = ID.replace("01a2", "01a3")
    memory.put(other, WHO, 2, GIVEN)
    memory.close()
    [path] = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - 1)
    again = IdempotencyCache(LABELS, folder=tmp_path, span_s=600)
    assert again.get(ID, WHO) == GIVEN
    assert again.get(other, WHO) is None


def test_answers_are_remembered_for_their_span_and_forgotten_within_twice_of_it(
    tmp_path: Path,
) -> None:
    now = [0.0]
    memory = IdempotencyCache(LABELS, folder=tmp_path, span_s=600, clock=lambda: now[0])
    memory.put(ID, WHO, 2, GIVEN)
    for minute in range(1, 21):
        now[0] = minute * 60.5
        memory.put(f"{minute:08x}{ID[8:]}", WHO, 0, GIVEN)
        if now[0] <= 600:
            assert memory.get(ID, WHO) == GIVEN
    now[0] = 1900.0
    memory.put(f"{99:08x}{ID[8:]}", WHO, 0, GIVEN)
    assert memory.get(ID, WHO) is None
    assert len(list(tmp_path.iterdir())) <= 2
    memory.close()


def test_a_clock_that_was_set_ahead_makes_no_answer_be_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = IdempotencyCache(LABELS, folder=tmp_path, span_s=600)
    memory.put(ID, WHO, 2, GIVEN)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 31 * 86_400)
    for number in range(3):
        memory.put(f"{number:08x}{ID[8:]}", WHO, 0, GIVEN)
    assert memory.get(ID, WHO) == GIVEN
    memory.close()
    assert IdempotencyCache(LABELS, folder=tmp_path, span_s=600).get(ID, WHO) == GIVEN


def test_the_memory_of_answers_is_bounded() -> None:
    memory = IdempotencyCache(LABELS, folder=None, span_s=600, most=1_000)
    for number in range(5_000):
        memory.put(f"{number:08x}{ID[8:]}", WHO, 2, GIVEN)
    assert len(memory) <= 1_000
    assert memory.get(f"{4_999:08x}{ID[8:]}", WHO) == GIVEN


def test_after_a_kill_the_last_answers_are_found_in_the_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit_bytes=80 << 10)  # small segments
    for number in range(300):
        event_ = {
            "decision_id": f"{number:08x}{ID[8:]}",
            "subject_id": WHO,
            "action": "hard",
            "propensity": 1 / 3,
            "policy_version": 7,
            "mode": "online",
            "cohort": "policy",
            "explored": True,
        }
        spool.append([Record(Topic.DECISIONS, b"k", json.dumps(event_).encode())])
        spool.append([Record(Topic.OUTCOMES, b"k", b"{}")])
    memory = IdempotencyCache(LABELS, folder=None, span_s=600)
    memory.recover(json.loads(record.value) for record in spool.newest(Topic.DECISIONS, 64))
    assert 64 <= len(memory) < 300
    assert all(memory.get(f"{number:08x}{ID[8:]}", WHO) == GIVEN for number in range(300 - 64, 300))
    spool.close()


def test_what_kafka_has_makes_room_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, limit_bytes=MIB)
    for number in range(20):
        spool.append([event(number, 20_000)])  # several segments
    read_all(spool)
    spool.acknowledge()
    spool.append([event(20, 20_000)])
    real, room = os.write, spool.bytes_on_disk - 1

    def full(fd: int, data: bytes) -> int:
        if sum(path.stat().st_size for path in tmp_path.glob("*.log")) > room:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    spool.append([event(21, 20_000)])
    assert [record.key for record in read_all(spool)] == [b"key-20", b"key-21"]


def test_a_sync_is_done_once_for_what_was_appended_in_several_segments(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit_bytes=MIB)
    assert not spool.sync()
    for number in range(20):
        spool.append([event(number, 20_000)])
    assert spool.sync()
    assert not spool.sync()
    spool.append([event(20)])
    assert spool.sync()
    spool.close()
    assert len(read_all(Spool(tmp_path, limit_bytes=MIB))) == 21


def test_a_disk_that_refuses_to_sync_is_told_and_stops_nothing(tmp_path: Path) -> None:
    class Refusing(Spool):
        def sync(self) -> bool:
            raise OSError(5, "Input/output error")

    fsync_thread = FsyncThread(Refusing(tmp_path, limit_bytes=MIB), every_s=1.0)
    fsync_thread.step()
    assert "Input/output error" in str(fsync_thread.problem)
