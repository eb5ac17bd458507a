"""Restarts of the query: it resumes from its checkpoint, and is started again when it fails.

It fails of what passes by itself (a broker that is away for longer than Spark waits, a disk that is
full) and of a checkpoint that Spark refuses. Spark stays up meanwhile; only a query that fails
again and again without having done anything ends the process, in case a new one fares better.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from kafka.errors import KafkaError

from bakehouse_schemas.errors import StackError
from bakehouse_schemas.process.addresses import text_without_secrets
from bakehouse_schemas.process.logs import words
from bakehouse_stream.kafka.broker import Broker
from bakehouse_stream.kafka.checkpoints import Checkpoint, starting_offsets
from bakehouse_stream.kafka.sources import Offsets
from bakehouse_stream.kafka.stream_time import reaches
from bakehouse_stream.queries.query import ReplayQuery

FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 10.0
# In a row, without a batch. With the delays between them they take longer than a minute, so that
# a supervisor does not take the end of the process for one that can never start.
MOST_FRUITLESS = 10
MAX_REASON = 4_000  # characters; Spark appends its whole plan

log = logging.getLogger("stream")


def restart_delay_s(fruitless: int) -> float:
    """Seconds before the next start: 0.5, 1, 2, 4, … 10 after so many without a batch."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** max(0, fruitless - 1)))


class QueryRestarts:
    """Keeps one query running; call `check` again and again, always from the same thread.

    Args:
        broker: used here and by that thread alone.
        woken: set when the query has ended.
    """

    def __init__(
        self,
        query: ReplayQuery,
        checkpoint: Checkpoint,
        broker: Broker,
        *,
        woken: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._query = query
        self._checkpoint = checkpoint
        self._broker = broker
        self._woken = woken
        self._clock = clock
        self._ended: list[Exception | None] = []  # what this run ended of, once it has
        self._alive = False
        self._start_at = 0.0
        self._batches = 0
        self._fruitless = 0
        self.starts = 0  # of the query, in this process
        self.gap: Offsets | None = None  # where the topics ended when the join began empty
        self.problem: str | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the query runs, as far as is known."""
        return self._alive and not self._ended

    def start(self) -> None:
        """Start the query.

        Raises:
            KafkaError: the broker does not answer; nothing was started.
        """
        beginnings, ends = self._broker.beginnings(), self._broker.ends()
        applied = self._checkpoint.applied
        if not reaches(ends, applied):
            log.warning(
                "%s was applied, and the topics end at %s: they were made anew, and are read from "
                "their beginning",
                applied,
                ends,
            )
            applied = beginnings
            self._checkpoint.restart_at(beginnings)
        self._checkpoint.prepare()
        if (applied or self._checkpoint.rewound) and self._checkpoint.is_new:
            self.gap = ends
        self._ended = []
        self._batches = self._query.counts.batches
        self._query.start(starting_offsets(applied, beginnings, ends))
        self._alive = True
        self.starts += 1
        threading.Thread(target=self._watch, args=(self._ended,), name="watch", daemon=True).start()

    def _watch(self, ended: list[Exception | None]) -> None:
        ended.append(self._query.await_termination())
        self._woken.set()

    def check(self) -> None:
        """Note that the query has ended, and start it again when it is time.

        Raises:
            StackError: too many runs in a row have brought nothing.
        """
        if self.is_alive:
            if self._fruitless and self._has_worked():
                self._fruitless, self.problem = 0, None
            return
        if self._alive:
            self._note_end()
        if self._clock() < self._start_at:
            return
        try:
            self.start()
        except KafkaError as error:
            self.problem = f"the broker does not answer: {text_without_secrets(str(error))}"
            self._start_at = self._clock() + LONGEST_DELAY_S / 4
        except Exception as error:  # some checkpoints are refused before the query starts
            self._note_failure(error, refused=True)

    def _note_end(self) -> None:
        self._alive = False
        worked = self._has_worked()
        self._query.stop()  # one whose thread is gone may call itself active
        if worked:
            self._fruitless = 0
        self._note_failure(self._ended[0], refused=not worked)

    def _note_failure(self, error: Exception | None, *, refused: bool = False) -> None:
        self._fruitless += 1
        # for the status; it may quote a record
        self.problem = text_without_secrets(str(error))[:MAX_REASON]
        log.error("the query ended, and begins anew: %s", error)
        if self._fruitless >= MOST_FRUITLESS:
            raise StackError(
                f"the query died {self._fruitless} times in a row without having done anything, "
                f"the last time of: {'nothing known' if error is None else words(error)}. What was "
                "applied is in the tables"
            )
        if refused and self._broker_answers():
            self._checkpoint.note_refused()
        self._start_at = self._clock() + restart_delay_s(self._fruitless)

    def _has_worked(self) -> bool:
        return self._query.counts.batches > self._batches or self._query.last_progress() is not None

    def _broker_answers(self) -> bool:
        try:
            self._broker.ends()
        except KafkaError:
            return False
        return True
