"""One application as this process serves it: which policy is in the slot, and who said so.

The learner's pointer says what is newest; people's control says what is pinned, frozen or
killed, and wins. Both are kept in `<home>/serving/<application>.json`, so that a restart without
Kafka serves the last good policy, and a kill survives it.

No lock is held while a bundle loads or a file is written, so a kill waits for neither: it is in
force first, and kept afterwards.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.decisions.slot import Slot, version_zero
from bakehouse_schemas.errors import BundleError, InvalidEvent
from bakehouse_schemas.events.events import DAY_MS, Control, PolicyPointer, validated
from bakehouse_schemas.policy.bundle import LoadedPolicy, Manifest, load_bundle, read_manifest
from bakehouse_schemas.process.failpoints import reach
from bakehouse_schemas.process.spans import Tracer
from bakehouse_schemas.process.tracing import named_in
from bakehouse_serving.counters import Figures
from bakehouse_serving.hydration.lookup import hydrator_for
from bakehouse_serving.policies.audit_log import HEARD, Trail
from bakehouse_serving.traced import trace_first_answer, trace_swap
from bakehouse_serving.uncounted import Uncounted

log = logging.getLogger(__name__)
ACTIONS = ("promote", "rollback", "freeze", "release", "kill", "revive", "explore", "retrain")


class Conflict(Exception):
    """A control that cannot be carried out now; nothing was changed."""


class Change(NamedTuple):
    """A control that is in force, and what it replaced."""

    action: str
    control: Control
    before: Control

    @property
    def moves(self) -> bool:
        """Whether another policy may have to be loaded now."""
        then, now = self.before, self.control
        return (then.pinned_version, then.frozen) != (now.pinned_version, now.frozen)


class Served:
    """See the module. Any thread may call; the hot routes only read `slot`.

    Args:
        policies: the only folder that bundles are loaded from.
        cache: file for pointer and control.
        clock: seconds since 1970, UTC.
        tracer: takes the spans of swaps; None: nothing is traced.

    Raises:
        MissingDependency: its features are looked up by something that is not installed.
    """

    def __init__(
        self,
        application: Application,
        *,
        policies: Path,
        cache: Path,
        clock: Callable[[], float] = time.time,
        tracer: Tracer | None = None,
    ) -> None:
        self.application = application
        self.figures = Figures()
        self.uncounted = Uncounted(application)
        self.hydrator = hydrator_for(application, self.figures)
        self.slot: Slot = version_zero(application)
        self.control = Control(application=application.name, at_ms=0)
        self.swaps = 0
        self.refused_policy: dict[str, Any] | None = None  # what should be in the slot and cannot
        self.last_refused_at_ms = 0  # of a policy, whatever came after; 0: none was
        self.history: deque[dict[str, Any]] = deque(maxlen=100)
        self._policies = policies
        self._cache = cache
        self.trail = Trail(cache.with_suffix(".audit.jsonl"))
        self._clock = clock
        self._tracer = tracer
        self._traced: tuple[str, ...] = ()  # decisions that are new in the slot, and in no answer
        self._swapped_s = 0.0
        self._lock = threading.RLock()  # for as long as memory takes: see the module
        self._writing = threading.Lock()  # of what is kept on disk, in the order of its making
        self._pointer: PolicyPointer | None = None  # the last one that was good
        self._newest: PolicyPointer | None = None  # the last one seen
        self._known: dict[int, PolicyPointer] = {}
        self._source: PolicyPointer | None = None  # of what is in the slot
        self._ahead: tuple[PolicyPointer | None, LoadedPolicy] | None = None  # loaded for a pin
        self._answered: Slot | None = None

    # --- what comes in

    def restore(self) -> None:
        """Take up pointer and control where the last process left them."""
        try:
            kept = json.loads(self._cache.read_bytes())
            control = validated(Control, kept["control"])
            pointer = validated(PolicyPointer, kept["pointer"]) if kept["pointer"] else None
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, InvalidEvent) as error:
            log.warning(
                "%s cannot be read (%s); starting without it",
                self._cache,
                error,
                extra={"application": self.application.name},
            )
            return
        now_ms = int(self._clock() * 1000)
        if control.at_ms > now_ms + DAY_MS:  # else whatever people say next would be older
            control = control.model_copy(update={"at_ms": now_ms})
        with self._lock:
            self.control = control
            if pointer is not None:
                self._newest = pointer
                self._known[pointer.version] = pointer
            self._switch("restored from this home")
        self._settle("restored from this home", live=False)

    def point(self, pointers: Sequence[PolicyPointer], *, live: bool) -> None:
        """The learner published; only the last of these is loaded.

        Args:
            live: they were published while this process listened (so freshness is meant).
        """
        with self._lock:
            self._newest = pointers[-1]
            for pointer in pointers:
                self._known[pointer.version] = pointer
            for version in sorted(self._known)[:-200]:
                del self._known[version]
            if self._newest == self._pointer or self.control.frozen:
                return
            passed_over = [p for p in pointers[:-1] if p.version > self.slot.version]
        self._settle("published", live=live, passed_over=passed_over)
        self._persist()

    def hear(self, control: Control) -> Change | None:
        """A control record came from Kafka: this process's own, or another's.

        In force on return, as far as no bundle has to be loaded for it: see `complete`. None where
        a newer one is in force.
        """
        with self._lock:
            if control.at_ms <= self.control.at_ms:
                return None
            before, self.control = self.control, control
            self._switch(_said(control))
            return Change(HEARD, control, before)

    def act(
        self,
        action: str,
        *,
        by: str,
        why: str,
        version: int | None = None,
        share: float | None = None,
    ) -> Control:
        """A person's word. In force from the next request on, and kept, when this returns.

        Args:
            version: of promote and rollback.
            share: of uniform choice, of explore; None: as the page says again.

        Raises:
            InvalidEvent: a version is missing, or something is given where it says nothing.
            Conflict: that version cannot be served.
            OSError: in force, but not kept for a restart.
        """
        change = self.put_in_force(action, by=by, why=why, version=version, share=share)
        self.complete(change)
        return change.control

    def put_in_force(
        self,
        action: str,
        *,
        by: str,
        why: str,
        version: int | None = None,
        share: float | None = None,
    ) -> Change:
        """The same, not kept yet. All but promote and rollback wait for nothing.

        Raises:
            InvalidEvent, Conflict: as `act` does; nothing was changed.
        """
        self._check_asked(action, version, share)
        if action in ("promote", "rollback"):
            version = self._before() if version is None else version
            self._load_ahead(version)
        with self._lock:
            now_ms = max(int(self._clock() * 1000), self.control.at_ms + 1)
            update = _update(action, version, share, now_ms)
            before = self.control
            self.control = before.model_copy(
                update=update | {"by": by, "why": why, "at_ms": now_ms}
            )
            change = Change(action, self.control, before)
            self._switch(_why(change))
            return change

    def complete(self, change: Change) -> None:
        """What of a change takes time: another policy is loaded where it asks for one, and it is
        kept for a restart and for whoever asks later.

        Raises:
            OSError: in force, but not kept for a restart.
        """
        if change.moves:
            self._settle(_why(change), live=True)
        try:
            self._persist(durably=change.action != HEARD)
        finally:
            self._note_control(*change)

    def _note_control(self, action: str, control: Control, before: Control) -> None:
        try:
            self.trail.note(action, control, before)
        except OSError as error:  # what people asked for happens, whatever the disk says
            log.warning("%s: %s is not in the audit log: %s", control.application, action, error)

    def _check_asked(self, action: str, version: int | None, share: float | None) -> None:
        if share is not None and action != "explore":
            raise InvalidEvent(f"share: {action} takes none, got {share}")
        if version is None and action == "promote":
            raise InvalidEvent("version: missing; name the version to serve until released")
        if version is not None and action not in ("promote", "rollback"):
            raise InvalidEvent(f"version: {action} takes none, got {version}")

    def _before(self) -> int:
        """The version that a rollback means where it names none."""
        current = self.slot.policy
        if current is None:
            raise Conflict("policy 0 is being served: there is nothing before it")
        return current.manifest.previous

    def _load_ahead(self, version: int) -> None:
        """What a person names is loaded before anything changes: a slip stands in nobody's way."""
        with self._lock:
            source = self._known.get(version)
        try:
            content = self._content(version, source)
        except BundleError as error:
            raise Conflict(
                f"policy {version} cannot be served: {error}; `bakehouse policies` lists those "
                f"there are. Policy {self.slot.version} goes on serving"
            ) from None
        if content is not None:
            self._ahead = source, content

    # --- what is in the slot

    def _switch(self, why: str) -> None:
        """What needs no bundle is in force: kill and share of uniform choice. With the lock."""
        slot, control = self.slot, self.control
        if (slot.killed, slot.explore_share) != (control.killed, control.explore_share):
            fresh = () if slot is self._answered else slot.fresh
            self._put(
                replace(
                    slot, killed=control.killed, explore_share=control.explore_share, fresh=fresh
                ),
                why,
            )

    def _put(self, new: Slot, why: str) -> None:
        reach("serving.slot.inside_load")
        self._note(self.slot, new, why)
        self.slot = new

    def _wanted(self) -> tuple[int, PolicyPointer | None, PolicyPointer | None]:
        """Version and source that pointer and control ask for, and the learner's pointer that
        they are of; with the lock."""
        control = self.control
        pointer = self._pointer if control.frozen and self._pointer else self._newest
        if control.pinned_version is not None:
            return control.pinned_version, self._known.get(control.pinned_version), None
        return (pointer.version if pointer else 0), pointer, pointer

    def _settle(self, why: str, *, live: bool, passed_over: Sequence[PolicyPointer] = ()) -> None:
        """Make the slot what pointer and control say, or say why it cannot be."""
        while True:
            began_s = self._clock()
            with self._lock:
                wanted = self._wanted()
            version, source, _ = wanted
            manifests = self._manifests(passed_over) if live else []
            try:
                content = self._content(version, source)
            except BundleError as error:
                with self._lock:
                    if self._wanted() == wanted:
                        self._refuse(version, error)
                        return
                continue
            with self._lock:
                if self._wanted() == wanted:  # else somebody has spoken while it loaded
                    self._take_up(content, wanted, why, live, manifests, began_s)
                    return

    def _refuse(self, version: int, error: BundleError) -> None:
        name = self.application.name
        about = {"application": name, "version": version}
        log.warning("%s: policy %s refused: %s", name, version, error, extra=about)
        self.last_refused_at_ms = at_ms = int(self._clock() * 1000)
        self.refused_policy = {"version": version, "reason": str(error), "at_ms": at_ms}

    def _take_up(
        self,
        content: LoadedPolicy | None,
        wanted: tuple[int, PolicyPointer | None, PolicyPointer | None],
        why: str,
        live: bool,
        passed_over: Sequence[Manifest],
        began_s: float,
    ) -> None:
        """A policy that was loaded answers from now on; with the lock."""
        control, slot = self.control, self.slot
        _, self._source, pointer = wanted
        self._ahead = self.refused_policy = None
        if control.pinned_version is None:
            self._pointer = pointer
        fresh: tuple[int, ...] = ()
        traced: tuple[str, ...] = ()
        unanswered: tuple[str, ...] = ()  # of these, those that a policy before has brought
        if slot is not self._answered and content is not None and content.version >= slot.version:
            fresh = slot.fresh  # nobody has had an answer that knows of these
            unanswered = self._traced
        if live and content is not None and content.version > slot.version:
            manifests = [*passed_over, content.manifest]
            fresh += tuple(at for one in manifests for at in one.new_outcomes_received_at_ms)
            traced = tuple(name for one in manifests for name in named_in(one.gate))
        if content is None:
            new = version_zero(
                self.application, killed=control.killed, explore_share=control.explore_share
            )
        else:
            manifest = content.manifest
            # whom a person promotes answers everyone
            canary = manifest.canary if control.pinned_version is None else 1.0
            new = Slot(
                content,
                manifest.exploration,
                control.killed,
                fresh,
                canary,
                control.explore_share,
            )
        if new != slot:
            self._traced, self._swapped_s = unanswered + traced, self._clock()
            self._put(new, why)
            if self._tracer is not None and traced:
                name, versions = self.application.name, (slot.version, new.version)
                trace_swap(self._tracer, name, versions, traced, began_s, self._swapped_s)

    def _content(self, version: int, source: PolicyPointer | None) -> LoadedPolicy | None:
        """A policy as it is in memory, else loaded and checked; without the lock.

        Raises:
            BundleError: it cannot be used.
        """
        if version == 0:
            return None
        sha256 = source.sha256 if source else None
        with self._lock:
            current = self.slot.policy
            if current is not None and current.version == version and source == self._source:
                return current
            if self._ahead is not None and self._ahead[0] == source:
                ahead = self._ahead[1]
                if ahead.version == version:
                    return ahead
        folder = self._policies / self.application.name / str(version)
        if source is not None and source.uri:
            folder = self._named(source.uri)
        loaded = load_bundle(
            folder,
            application=self.application.name,
            contract=self.application.contract,
            sha256=sha256,
            inside=self._policies,
            labels=self.application.actions.choices,
            shape=self.application.shape,
            dimensions=self.application.encoder.size,
        )
        if loaded.version != version:
            raise BundleError(f"{folder} holds policy {loaded.version}, expected {version}")
        # The first run of a shape costs more than the others: not a player's to pay.
        size = self.application.encoder.size
        shape = self.application.shape
        items = np.zeros((1, shape.choices, shape.features), np.float32)
        loaded.policy.own(
            np.zeros((1, size), np.float32), np.ones((1, shape.choices), dtype=bool), items
        )
        return loaded

    def _named(self, uri: str) -> Path:
        """The folder that a pointer names; whoever writes to Kafka may name any.

        Raises:
            BundleError: it is not inside the policies' folder, links and `..` resolved.
        """
        folder = Path(uri.removeprefix("file://"))
        try:
            inside = folder.resolve().is_relative_to(self._policies.resolve())
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
            raise BundleError(f"{uri!r:.200} cannot be a folder: {error}") from None
        if not inside:
            raise BundleError(
                f"{uri!r:.200} is not inside {self._policies}, the only place to load policies from"
            )
        return folder

    def _manifests(self, pointers: Sequence[PolicyPointer]) -> list[Manifest]:
        """Those of policies that were passed over, as far as they can be read."""
        found = []
        for pointer in pointers:
            if pointer.uri:
                with contextlib.suppress(BundleError):
                    found.append(read_manifest(self._named(pointer.uri)))
        return found

    def _note(self, old: Slot, new: Slot, why: str) -> None:
        if new.version == old.version and new.killed == old.killed:
            return
        self.swaps += new.version != old.version
        self.history.append(
            {
                "at_ms": int(self._clock() * 1000),
                "from": old.version,
                "to": new.version,
                "killed": new.killed,
                "why": why,
            }
        )

    def first_answer(self, slot: Slot) -> None:
        """A slot with news in it has answered: its outcomes are as fresh as they get."""
        # a long batch goes on with its slot after a swap: no news, and not to be counted again
        if slot is self.slot and slot is not self._answered:
            self._answered = slot
            now_s = self._clock()
            self.figures.freshness.add(now_s, slot.fresh)
            if self._tracer is not None and self._traced:
                name, traced, self._traced = self.application.name, self._traced, ()
                trace_first_answer(self._tracer, name, slot.version, traced, self._swapped_s, now_s)

    # --- what goes out

    def _persist(self, *, durably: bool = False) -> None:
        with self._writing:
            with self._lock:
                kept = {
                    "control": self.control.model_dump(),
                    "pointer": self._pointer.model_dump() if self._pointer else None,
                }
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            aside = self._cache.with_name(f".{self._cache.name}.{os.getpid()}")
            with aside.open("w") as file:
                json.dump(kept, file)
                if durably:
                    file.flush()
                    os.fsync(file.fileno())
            aside.replace(self._cache)

    def state(self) -> dict[str, Any]:
        """Version and control, for status and people."""
        slot, control = self.slot, self.control
        return {
            "policy_version": slot.version,
            "newest_version": self._newest.version if self._newest else 0,
            "canary": slot.canary if slot.version else 0.0,
            "killed": control.killed,
            "frozen": control.frozen,
            "pinned_version": control.pinned_version,
            "explore_share": control.explore_share,
            "swaps": self.swaps,
            "refused_policy": self.refused_policy,
        }


def _update(action: str, version: int | None, share: float | None, now_ms: int) -> dict[str, Any]:
    """What an action changes in a control."""
    changes: dict[str, dict[str, Any]] = {
        "promote": {"pinned_version": version},
        "rollback": {"pinned_version": version},
        "freeze": {"frozen": True},
        "release": {"pinned_version": None, "frozen": False, "released_at_ms": now_ms},
        "kill": {"killed": True},
        "revive": {"killed": False},
        "explore": {"explore_share": share},
        "retrain": {"retrain_at_ms": now_ms},
    }
    return changes[action]


def _why(change: Change) -> str:
    if change.action == HEARD:
        return _said(change.control)
    return f"{change.action} by {change.control.by or 'someone'}"


def _said(control: Control) -> str:
    return (
        f"control by {control.by or 'someone'}: {control.why}"
        if control.why
        else (f"control by {control.by or 'someone'}")
    )
