"""One application as this process serves it: the policy in its slot, and the control over it.

The learner's pointer names the newest policy; an operator's control pins, freezes or kills, and
wins. Both are kept in `<home>/serving/<application>.json`, so that a restart without Kafka serves
the last good policy, and a kill survives it.

No lock is held while a bundle loads or a file is written, so a kill waits for neither: it is in
force first, and persisted afterwards.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bakehouse_schemas.application.application import Application
from bakehouse_schemas.contracts.known import KnownContracts, OtherContracts
from bakehouse_schemas.decisions.slot import Slot, version_zero
from bakehouse_schemas.errors import BundleError
from bakehouse_schemas.events.events import Control, PolicyPointer
from bakehouse_schemas.events.fields import DAY_MS
from bakehouse_schemas.policy.bundle import LoadedPolicy, Manifest
from bakehouse_schemas.policy.carry import carried_over
from bakehouse_schemas.process.failpoints import reach
from bakehouse_schemas.process.spans import Tracer
from bakehouse_serving.counters import Counters
from bakehouse_serving.hydration.lookup import hydrator_for
from bakehouse_serving.policies.audit_log import HEARD, AuditLog
from bakehouse_serving.policies.control_actions import (
    NAME_A_VERSION,
    Change,
    apply_action,
    check_arguments,
    reason_of,
)
from bakehouse_serving.policies.first_answers import FirstAnswers
from bakehouse_serving.policies.loading import PolicyLoader
from bakehouse_serving.policies.selection import Pointers, Selection, slot_of
from bakehouse_serving.policies.state_file import StateFile
from bakehouse_serving.uncounted import Uncounted

log = logging.getLogger(__name__)


class Conflict(Exception):
    """A control that cannot be carried out now; nothing was changed."""


class Served:
    """The slot of one application, swapped as learner and operators ask for it.

    Any thread may call; the hot routes only read `slot`.

    Args:
        policies: the only folder that bundles are loaded from.
        cache: the file that keeps pointer and control.
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
        self.counters = Counters()
        self.uncounted = Uncounted(application)
        self.hydrator = hydrator_for(application, self.counters)
        self.slot: Slot = version_zero(application)
        self.control = Control(application=application.name, at_ms=0)
        self.swaps = 0
        self.refused_policy: dict[str, Any] | None = None  # what should be in the slot and cannot
        self.last_refused_at_ms = 0  # of a policy, whatever came after; 0: none was
        self.history: deque[dict[str, Any]] = deque(maxlen=100)
        # beside the policies, which are the home's
        self.known = KnownContracts(policies.parent)
        self.other_contracts = OtherContracts(self.known, application)
        self._loader = PolicyLoader(application, policies, self.known)
        self._state_file = StateFile(cache, application=application.name)
        self.audit_log = AuditLog(cache.with_suffix(".audit.jsonl"))
        self._clock = clock
        self._first_answers = FirstAnswers(
            application.name, self.counters.freshness, clock=clock, tracer=tracer
        )
        self._lock = threading.RLock()  # held for as long as memory takes: see the module
        self._writing = threading.Lock()  # of the state file, in the order of the changes
        self._pointers = Pointers(application.contract)
        self._source: PolicyPointer | None = None  # of what is in the slot
        self._ahead: tuple[PolicyPointer | None, LoadedPolicy] | None = None  # loaded for a pin

    # --- what comes in

    def restore(self) -> None:
        """Resume from the pointer and the control that the last process persisted."""
        state = self._state_file.read()
        if state is None:
            return
        control, pointer = state
        now_ms = int(self._clock() * 1000)
        if control.at_ms > now_ms + DAY_MS:  # else whatever people say next would be older
            control = control.model_copy(update={"at_ms": now_ms})
        with self._lock:
            self.control = control
            if pointer is not None:
                self._pointers.add([pointer])
            self._switch("restored from this home")
        self._settle("restored from this home", live=False)

    def point(
        self,
        pointers: Sequence[PolicyPointer],
        *,
        live: bool,
        of_contracts: Mapping[str, PolicyPointer] | None = None,
    ) -> None:
        """Serve what the learner has published; only the last of these is loaded.

        Args:
            live: they were published while this process listened, so their freshness is measured.
            of_contracts: what was published last for each contract.
        """
        with self._lock:
            unclaimed = self._pointers.unclaimed(pointers, of_contracts)
        made_for = None if unclaimed is None else self._loader.made_for(unclaimed)
        with self._lock:
            self._pointers.add(pointers, of_contracts, made_for)
            if self._pointers.chosen().published == self._pointers.served or self.control.frozen:
                return
            passed_over = [p for p in pointers[:-1] if p.version > self.slot.version]
        self._settle("published", live=live, passed_over=passed_over)
        self._persist()

    def apply_control(self, control: Control) -> Change | None:
        """Apply a control that came from Kafka: this process's own, or another's.

        In force on return, as far as no policy has to be loaded for it: `complete` does that. None
        where a newer one is in force already.
        """
        with self._lock:
            if control.at_ms <= self.control.at_ms:
                return None
            before, self.control = self.control, control
            self._switch(reason_of(control))
            return Change(HEARD, control, before)

    def put_in_force(
        self,
        action: str,
        *,
        by: str,
        why: str,
        version: int | None = None,
        share: float | None = None,
    ) -> Change:
        """Apply an operator's action; on return it is in force, and `complete` persists it.

        All but promote and rollback, which load the policy first, wait for nothing.

        Args:
            version: of promote and rollback.
            share: of uniform choice, of explore; None: as the application says again.

        Raises:
            InvalidEvent: a version is missing, or the action has no use for what came.
            Conflict: that version cannot be served. Nothing was changed.
        """
        check_arguments(action, version, share)
        if action in NAME_A_VERSION:
            version = self._before() if version is None else version
            self._load_ahead(version)
        with self._lock:
            before = self.control
            self.control = apply_action(
                before,
                action,
                version=version,
                share=share,
                by=by,
                why=why,
                at_ms=max(int(self._clock() * 1000), before.at_ms + 1),
            )
            change = Change(action, self.control, before)
            self._switch(change.reason)
            return change

    def complete(self, change: Change) -> None:
        """Do the slow part of a change: load another policy where it asks for one, then persist it
        and append it to the audit log.

        Raises:
            OSError: in force, but not persisted for a restart.
        """
        if change.may_load:
            self._settle(change.reason, live=True)
        try:
            self._persist(durably=change.action != HEARD)
        finally:
            self._note_control(*change)

    def _note_control(self, action: str, control: Control, before: Control) -> None:
        try:
            self.audit_log.note(action, control, before)
        except OSError as error:  # in force, whatever the disk says
            log.warning("%s: %s is not in the audit log: %s", control.application, action, error)

    def _before(self) -> int:
        """The version that a rollback means where it names none."""
        current = self.slot.policy
        if current is None:
            raise Conflict("policy 0 is being served: there is nothing before it")
        return current.manifest.previous

    def _load_ahead(self, version: int) -> None:
        """Load what an operator names before anything changes: a wrong number changes nothing."""
        with self._lock:
            source = self._pointers.of_version(version)
        try:
            loaded = self._load(version, source)
        except BundleError as error:
            raise Conflict(
                f"policy {version} cannot be served: {error}; `bakehouse policies` lists those "
                f"there are. Policy {self.slot.version} goes on serving"
            ) from None
        if loaded is not None:
            self._ahead = source, loaded

    # --- what is in the slot

    def _switch(self, why: str) -> None:
        """Apply what needs no bundle: kill, and the share of uniform choice. With the lock."""
        slot, control = self.slot, self.control
        if (slot.killed, slot.explore_share) != (control.killed, control.explore_share):
            new = replace(
                slot,
                killed=control.killed,
                explore_share=control.explore_share,
                fresh=self._first_answers.fresh_in(slot),
            )
            self._put(new, why)

    def _put(self, new: Slot, why: str) -> None:
        reach("serving.slot.inside_load")
        self._note(self.slot, new, why)
        self.slot = new

    def _settle(self, why: str, *, live: bool, passed_over: Sequence[PolicyPointer] = ()) -> None:
        """Serve what control and pointer ask for, or note why it cannot be served."""
        while True:
            began_s = self._clock()
            with self._lock:
                selected = self._pointers.select(self.control)
            manifests = self._loader.manifests(passed_over) if live else []
            refused: BundleError | None = None
            loaded: LoadedPolicy | None = None
            found = selected
            try:
                loaded = self._load(found.version, found.source)
            except BundleError as error:
                refused = error
            if refused is not None and selected.instead and self.slot.policy is None:
                log.info("%s: another is tried: %s", self.application.name, refused)
                found = selected.in_its_place()
                with contextlib.suppress(BundleError):  # said of the first
                    loaded, refused = self._load(found.version, found.source), None
            with self._lock:
                if self._pointers.select(self.control) != selected:
                    continue  # a pointer or a control came while it loaded
                if refused is not None:
                    self._refuse(selected.version, refused)
                    return
                if loaded is not None and live and loaded.version > self.slot.version:
                    manifests.append(loaded.manifest)
                else:
                    manifests = []
                self._take_up(loaded, found, why, manifests, began_s=began_s)
                return

    def _refuse(self, version: int, error: BundleError) -> None:
        name = self.application.name
        about = {"application": name, "version": version}
        log.warning("%s: policy %s refused: %s", name, version, error, extra=about)
        self.last_refused_at_ms = at_ms = int(self._clock() * 1000)
        self.refused_policy = {"version": version, "reason": str(error), "at_ms": at_ms}

    def _take_up(
        self,
        loaded: LoadedPolicy | None,
        selected: Selection,
        why: str,
        manifests: Sequence[Manifest],
        *,
        began_s: float,
    ) -> None:
        """Serve a policy that was loaded. With the lock.

        Args:
            manifests: of the policies that are news.
            began_s: when its loading began.
        """
        control, slot = self.control, self.slot
        self._source = selected.source
        self._ahead = self.refused_policy = None
        if control.pinned_version is None:
            self._pointers.served = selected.published
        carries = loaded is not None and loaded.version >= slot.version
        news = self._first_answers.news(slot, manifests, carries=carries)
        new = slot_of(self.application, loaded, control, news.fresh)
        if new != slot:
            self._first_answers.expect(news)
            self._put(new, why)
            self._first_answers.trace(news, (slot.version, new.version), began_s=began_s)

    def _load(self, version: int, source: PolicyPointer | None) -> LoadedPolicy | None:
        """A policy: from memory, else loaded and checked. Without the lock.

        Raises:
            BundleError: it cannot be used.
        """
        if version == 0:
            return None
        with self._lock:
            current = self.slot.policy
            if current is not None and current.version == version and source == self._source:
                return current
            if self._ahead is not None and self._ahead[0] == source:
                ahead = self._ahead[1]
                if ahead.version == version:
                    return ahead
        return self._loader.load(version, source)

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
        """A slot with fresh outcomes in it has answered; the first time, that is recorded."""
        # a long batch goes on with its slot after a swap: not to be counted again
        if slot is self.slot and slot is not self._first_answers.answered:
            self._first_answers.record(slot)

    # --- what goes out

    def _persist(self, *, durably: bool = False) -> None:
        with self._writing:
            with self._lock:
                control, pointer = self.control, self._pointers.served
            self._state_file.write(control, pointer, durably=durably)

    def state(self) -> dict[str, Any]:
        """Version and control, for status."""
        slot, control, newest = self.slot, self.control, self._pointers.newest
        return {
            "policy_version": slot.version,
            "newest_version": newest.version if newest else 0,
            "canary": slot.canary if slot.version else 0.0,
            "killed": control.killed,
            "frozen": control.frozen,
            "pinned_version": control.pinned_version,
            "explore_share": control.explore_share,
            "swaps": self.swaps,
            "refused_policy": self.refused_policy,
            "carried_over": carried_over(slot.policy),
        }
