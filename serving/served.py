"""One application as this process serves it: which policy is in the slot, and who said so.

The learner's pointer says what is newest; people's control says what is pinned, frozen or
killed, and wins. Both are kept in `<home>/serving/<application>.json`, so that a restart without
Kafka serves the last good policy, and a kill survives it.
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
from typing import Any

import numpy as np

from schemas.application import Application
from schemas.bundle import LoadedPolicy, Manifest, load_bundle, read_manifest
from schemas.errors import BundleError, InvalidEvent
from schemas.events import Control, PolicyPointer, validated
from schemas.failpoints import reach
from schemas.slot import Slot, version_zero
from schemas.spans import Tracer
from schemas.tracing import named_in
from serving.figures import Figures
from serving.hydration import hydrator_for
from serving.traced import trace_first_answer, trace_swap
from serving.trail import HEARD, Trail

log = logging.getLogger(__name__)
ACTIONS = ("promote", "rollback", "freeze", "release", "kill", "revive", "explore", "retrain")


class Conflict(Exception):
    """A control that cannot be carried out now; nothing was changed."""


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
        self.hydrator = hydrator_for(application, self.figures)
        self.slot: Slot = version_zero(application)
        self.control = Control(application=application.name, at_ms=0)
        self.swaps = 0
        self.refused_policy: dict[str, Any] | None = None  # the last bundle that could not be used
        self.history: deque[dict[str, Any]] = deque(maxlen=100)
        self._policies = policies
        self._cache = cache
        self.trail = Trail(cache.with_suffix(".audit.jsonl"))
        self._clock = clock
        self._tracer = tracer
        self._traced: tuple[str, ...] = ()  # decisions that are new in the slot, and in no answer
        self._swapped_s = 0.0
        self._lock = threading.RLock()
        self._pointer: PolicyPointer | None = None  # the last one that was good
        self._newest: PolicyPointer | None = None  # the last one seen
        self._known: dict[int, PolicyPointer] = {}
        self._source: PolicyPointer | None = None  # of what is in the slot
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
        with self._lock:
            self.control = control
            if pointer is not None:
                self._newest = pointer
                self._known[pointer.version] = pointer
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
            if self._newest != self._pointer and not self.control.frozen:
                passed_over = [p for p in pointers[:-1] if p.version > self.slot.version]
                self._settle("published", live=live, passed_over=passed_over)
                self._persist()

    def heard(self, control: Control) -> None:
        """A control record came from Kafka: this process's own, or another's."""
        with self._lock:
            if control.at_ms <= self.control.at_ms:
                return
            before, self.control = self.control, control
            self._note_control(HEARD, control, before)
            self._settle(_said(control), live=True)
            self._persist()

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
        with self._lock:
            now_ms = max(int(self._clock() * 1000), self.control.at_ms + 1)
            change = self._change(action, version, share, now_ms)
            control = self.control.model_copy(
                update=change | {"by": by, "why": why, "at_ms": now_ms}
            )
            before, refused_before = self.control, self.refused_policy
            self.control = control
            settled = self._settle(f"{action} by {by or 'someone'}", live=True)
            if not settled and change.get("pinned_version") is not None:
                reason = (self.refused_policy or {}).get("reason")
                # what a person named by mistake stands in nobody's way: no alarm stays behind
                self.control, self.refused_policy = before, refused_before
                raise Conflict(
                    f"policy {control.pinned_version} cannot be served: {reason}; `bakehouse "
                    f"policies` lists those there are. Policy {self.slot.version} goes on serving"
                )
            try:
                self._persist(durably=True)
            finally:
                self._note_control(action, control, before)
            return control

    def _note_control(self, action: str, control: Control, before: Control) -> None:
        try:
            self.trail.note(action, control, before)
        except OSError as error:  # what people asked for happens, whatever the disk says
            log.warning("%s: %s is not in the audit log: %s", control.application, action, error)

    def _change(
        self, action: str, version: int | None, share: float | None, now_ms: int
    ) -> dict[str, Any]:
        if share is not None and action != "explore":
            raise InvalidEvent(f"share: {action} takes none, got {share}")
        if action in ("promote", "rollback"):
            if version is None and action == "promote":
                raise InvalidEvent("version: missing; name the version to serve until released")
            if version is None:
                current = self.slot.policy
                if current is None:
                    raise Conflict("policy 0 is being served: there is nothing before it")
                version = current.manifest.previous
            return {"pinned_version": version}
        if version is not None:
            raise InvalidEvent(f"version: {action} takes none, got {version}")
        changes: dict[str, dict[str, Any]] = {
            "freeze": {"frozen": True},
            "release": {"pinned_version": None, "frozen": False, "released_at_ms": now_ms},
            "kill": {"killed": True},
            "revive": {"killed": False},
            "explore": {"explore_share": share},
            "retrain": {"retrain_at_ms": now_ms},
        }
        return changes[action]

    # --- what is in the slot

    def _settle(self, why: str, *, live: bool, passed_over: Sequence[PolicyPointer] = ()) -> bool:
        """Make the slot what pointer and control say; False if it could not be."""
        began_s = self._clock()
        control, slot = self.control, self.slot
        pointer = self._pointer if control.frozen and self._pointer else self._newest
        if control.pinned_version is not None:
            wanted = control.pinned_version
            source = self._known.get(wanted)
        else:
            wanted = pointer.version if pointer else 0
            source = pointer
        try:
            content = self._content(wanted, source)
        except BundleError as error:
            log.warning(
                "%s: policy %s refused: %s",
                self.application.name,
                wanted,
                error,
                extra={"application": self.application.name, "version": wanted},
            )
            self.refused_policy = {
                "version": wanted,
                "reason": str(error),
                "at_ms": int(self._clock() * 1000),
            }
            asked = (control.killed, control.explore_share)
            if (slot.killed, slot.explore_share) != asked:
                self.slot = replace(slot, killed=control.killed, explore_share=asked[1])
            return False
        self._source = source
        if control.pinned_version is None:
            self._pointer = pointer
        fresh: tuple[int, ...] = ()
        traced: tuple[str, ...] = ()
        unanswered: tuple[str, ...] = ()  # of these, those that a policy before has brought
        if slot is not self._answered and content is not None and content.version >= slot.version:
            fresh = slot.fresh  # nobody has had an answer that knows of these
            unanswered = self._traced
        if live and content is not None and content.version > slot.version:
            manifests = [*self._manifests(passed_over), content.manifest]
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
            reach("serving.slot.inside_load")
            self._note(slot, new, why)
            self._traced, self._swapped_s = unanswered + traced, self._clock()
            self.slot = new
            if self._tracer is not None and traced:
                name, versions = self.application.name, (slot.version, new.version)
                trace_swap(self._tracer, name, versions, traced, began_s, self._swapped_s)
        return True

    def _content(self, version: int, source: PolicyPointer | None) -> LoadedPolicy | None:
        if version == 0:
            return None
        sha256 = source.sha256 if source else None
        current = self.slot.policy
        if current is not None and current.version == version and source == self._source:
            return current
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


def _said(control: Control) -> str:
    return (
        f"control by {control.by or 'someone'}: {control.why}"
        if control.why
        else (f"control by {control.by or 'someone'}")
    )
