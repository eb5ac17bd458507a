"""A stack whose parts are upgraded one after the other, as processes on many machines are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

from bakehouse.local import supervisor
from bakehouse.local.part import Part, module_of
from bakehouse.local.supervisor import Stack
from tests.homes.releases import origin


class RollingStack(Stack):
    """See the module.

    Args:
        earlier: variables by which a part runs the code of an earlier release; all parts do at
            first. Empty: this one's.
    """

    def __init__(
        self, refs: Sequence[str], settings: Any, *, earlier: Mapping[str, str], **others: Any
    ) -> None:
        super().__init__(refs, settings, **others)
        self._earlier = dict(earlier)
        self.earlier_parts: set[str] = set()

    def _begin(self) -> None:
        before = {name: os.environ.get(name) for name in self._earlier}
        os.environ.update(self._earlier)
        try:
            if self._earlier:
                self._check_origin()
            super()._begin()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        self.earlier_parts = set(self._parts) if self._earlier else set()

    def _stop_together(self, parts: list[Part]) -> None:
        # on a busy machine: what is killed instead leaves no final account to verify
        with patch.dict(supervisor.STOP_TIMEOUT_S, dict.fromkeys(supervisor.PARTS, 120.0)):
            super()._stop_together(parts)

    def roll(self, part: str, *, refs: Sequence[str] | None = None) -> None:
        """Stop a part and start it as this release, or with another application file; `wait`
        tells when it is ready."""
        self.stop_part(part)
        with self._changed:
            one = self._parts[part]
            one.environment = {
                name: value for name, value in one.environment.items() if name not in self._earlier
            }
            if refs is not None:
                one.command = [*one.command[:2], module_of(part), *refs]
            self.earlier_parts.discard(part)
            self._start(one)

    def _check_origin(self) -> None:
        """Else what is proved of two releases would be proved of one."""
        ours = origin({name: v for name, v in os.environ.items() if name not in self._earlier})
        theirs = origin(dict(os.environ))
        same = [name for name in ours if ours[name] == theirs[name]]
        assert not same, f"{', '.join(same)} would be of this release"
