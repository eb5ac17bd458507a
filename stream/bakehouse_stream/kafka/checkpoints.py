"""Where the query's checkpoint lies, and from where it goes on without one.

The path carries a fingerprint of what the state depends on. A checkpoint of another fingerprint,
or one that Spark refuses, is left behind: the query starts with an empty join at the offsets that
were last applied, and repair carries the gap.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bakehouse_schemas.process.boot import SETTLED_S
from bakehouse_stream.kafka.sources import RECORD, Offsets

# Raise when the plan of the query changes in a way that its old state does not fit.
PLAN = 1
REFUSALS = 2  # starts in a row that died before their first batch
NOTE_EVERY_S = 10.0

log = logging.getLogger("stream")


def fingerprint(*, spark_version: str, retention_ms: int, state_partitions: int) -> str:
    """What a checkpoint's state depends on, in twelve characters.

    The join's state holds records as they came: the columns that are made of them behind the join
    may be others without it.
    """
    parts = [PLAN, RECORD, spark_version, retention_ms, state_partitions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def merge_offsets(sources: list[Offsets]) -> dict[str, dict[str, int]]:
    """The lowest next offset of every partition over several sources of one query."""
    merged: dict[str, dict[str, int]] = {}
    for source in sources:
        for topic, partitions in source.items():
            known = merged.setdefault(topic, {})
            for partition, offset in partitions.items():
                known[partition] = min(offset, known.get(partition, offset))
    return merged


def furthest(some: Offsets, others: Offsets) -> dict[str, dict[str, int]]:
    """The higher next offset of every partition."""
    found = {topic: dict(partitions) for topic, partitions in some.items()}
    for topic, partitions in others.items():
        known = found.setdefault(topic, {})
        for partition, offset in partitions.items():
            known[partition] = max(offset, known.get(partition, 0))
    return found


class Checkpoint:
    """The checkpoint of one home, and a record of how far it has come.

    Args:
        boot: which start of the machine this is. After another one, what was applied last may not
            have reached the disk: `rewound` is True, and `applied` what it was a minute before.
        clock: monotonic, in seconds: one that is set must not make what was applied a second ago
            look as if it had long reached the disk.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        *,
        boot: str = "unknown",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = home.resolve() / "checkpoints"
        self._record = home.resolve() / "stream" / "offsets.json"
        self._name = name
        self._clock = clock
        self._state: dict[str, Any] = {
            "generation": 0,
            "refused": 0,
            "applied": {},
            "no_record": 0,  # positions before `applied` that hold none
            "earlier": [],  # [seconds by the clock, applied, no_record], one every few seconds
        }
        self.rewound = False
        if self._record.is_file():
            self._recall(boot)
        self._state |= {"name": name, "boot": boot}

    def _recall(self, boot: str) -> None:
        """Take up where the last process was, or a minute before, if the power failed since."""
        try:
            self._state |= json.loads(self._record.read_text())
        except ValueError:
            log.warning("%s is torn: everything that Kafka has is read again", self._record)
            self._state["generation"] = time.time_ns()  # none that was there before
            self.rewound = True
            return
        if self._state.get("name") != self._name:
            self._state |= {"generation": 0, "refused": 0}
        if self._state.get("boot", boot) != boot:
            earlier = self._state["earlier"]
            # what was applied later may not be there, and must not count as settled after a while
            settled = [one for one in earlier if one[0] <= earlier[-1][0] - SETTLED_S]
            self.rewound = True
            # those of an earlier release have no third: it counted none
            _, applied, *counted = settled[-1] if settled else (0.0, {})
            self._state |= {
                "applied": applied,
                "no_record": counted[0] if counted else 0,
                "earlier": settled,
            }
            self._state |= {"generation": self._state["generation"] + 1, "refused": 0}
            log.warning(
                "the machine was started anew: reading again from %s, in case it was a power cut",
                self._state["applied"] or "the beginning",
            )

    @property
    def path(self) -> Path:
        return self._root / f"{self._name}-{self._state['generation']}"

    @property
    def is_new(self) -> bool:
        """Whether a query that starts here starts with an empty join."""
        return not (self.path / "offsets").is_dir()

    @property
    def applied(self) -> dict[str, dict[str, int]]:
        """Topic → partition → next offset; everything before is in the tables."""
        found: dict[str, dict[str, int]] = self._state["applied"]
        return found

    @property
    def no_record(self) -> int:
        """How many of the positions before `applied` hold no record."""
        return int(self._state["no_record"])

    def prepare(self) -> None:
        """Leave a checkpoint behind that was refused, and delete all but the current one."""
        if self._state["refused"] >= REFUSALS:
            self.renew()
        for other in self._root.glob("*") if self._root.is_dir() else ():
            if other != self.path:
                shutil.rmtree(other, ignore_errors=True)

    def renew(self, *, forget: bool = False) -> None:
        """Go on in a new folder; with `forget` also from the beginning (the tables are new)."""
        self._state |= {"generation": self._state["generation"] + 1, "refused": 0}
        if forget:
            self._state |= {"applied": {}, "no_record": 0, "earlier": []}
        self._save()

    def planned(self, batch: int) -> dict[str, dict[str, int]]:
        """Where a batch ends, out of the query's offset log (written before the batch runs).

        Its first line is the log's version, the second metadata, then a line for each source.
        """
        lines = (self.path / "offsets" / str(batch)).read_text().splitlines()
        if lines[0] != "v1":
            raise ValueError(f"the offset log of {self.path} is {lines[0]!r}, expected 'v1'")
        return merge_offsets([json.loads(line) for line in lines[2:] if line != "-"])

    def note_applied(self, offsets: Offsets, *, no_record: int = 0) -> None:
        """Everything before `offsets` is in the tables.

        What was further already stays: an old checkpoint that was put back reads again what the
        tables have.

        Args:
            no_record: how many positions beyond what was applied before hold no record.
        """
        self._state |= {
            "applied": furthest(self.applied, offsets),
            "no_record": self.no_record + no_record,
            "refused": 0,
        }
        self._note_time()
        self._save()

    def _note_time(self) -> None:
        """Remember what was applied when, for as long as a power cut could make it matter."""
        earlier, now_s = self._state["earlier"], self._clock()
        # by a clock of before the machine was started anew, or of an earlier release: none of them
        # is younger than it will look
        ahead_s = max(0.0, earlier[-1][0] - now_s) if earlier else 0.0
        for one in earlier:
            one[0] -= ahead_s
        if earlier and now_s - earlier[-1][0] < NOTE_EVERY_S:
            return
        earlier.append([now_s, self.applied, self.no_record])
        while len(earlier) > 1 and earlier[1][0] <= now_s - 2 * SETTLED_S:
            del earlier[0]

    def restart_at(self, offsets: Offsets) -> None:
        """Go on in a new folder at `offsets`, though more was applied: the topics are new."""
        applied = {topic: dict(at) for topic, at in offsets.items()}
        self._state |= {"applied": applied, "no_record": 0, "earlier": []}
        self.renew()

    def note_refused(self) -> None:
        """The query died before it had finished a batch."""
        self._state["refused"] += 1
        self._save()

    def _save(self) -> None:
        self._record.parent.mkdir(parents=True, exist_ok=True)
        aside = self._record.with_suffix(".aside")
        aside.write_text(json.dumps(self._state))
        aside.replace(self._record)


def starting_offsets(applied: Offsets, beginnings: Offsets, ends: Offsets) -> Mapping[str, Any]:
    """Where to start in every partition: as far as was applied, within what the broker has."""
    return {
        topic: {
            partition: min(
                max(applied.get(topic, {}).get(partition, begin), begin), ends[topic][partition]
            )
            for partition, begin in partitions.items()
        }
        for topic, partitions in beginnings.items()
    }
