"""What can go wrong, one function each: its first line is the promise, it returns what it saw.

Players play all the while. A scenario hurts the stack, waits until it is whole again, and says
what it saw; whoever calls it then holds every record sent so far to account. It raises `Broken`
where a promise is not kept, and whatever waits in vain raises too.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.rig import Measured, Rig
from tests.faults.scenarios import (
    checkpoints,
    decisions,
    disks,
    events,
    growth,
    network,
    processes,
    rolling,
)

# In this order: at first the parts are of the release before, an old checkpoint needs a younger
# one, and old decisions need time to grow old.
SCENARIOS: tuple[Callable[[Rig], Measured], ...] = (
    rolling.to_this_release,
    processes.two_stacks,
    events.outcomes_before_decisions,
    events.poison,
    growth.not_known_yet,
    events.clients_clocks_a_year_off,
    processes.parts_killed,
    events.outcomes_beyond_retention,
    network.broker_killed,
    network.network_resets,
    network.network_half_open,
    processes.spool_tail_torn,
    decisions.decided_twice,
    checkpoints.checkpoint_put_back,
    checkpoints.checkpoint_deleted,
    events.outcomes_silent,
    decisions.rollback_races,
    checkpoints.checkpoint_without_metadata,
    disks.spool_full,
    disks.disk_full,
    events.everything_at_once,
    network.broker_unreachable,
    rolling.to_another_contract,
)
