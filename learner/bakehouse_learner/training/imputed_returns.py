"""What is every resident decision worth, as far as is known, and what is still expected of it?

A decision that is still open counts its reward so far, and on top of that what its like have
earned after the same age; a step of an episode counts what follows it as well.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bakehouse_learner.replay.episodes import terminal_slots
from bakehouse_learner.replay.maturity import RemainingReward, curve
from bakehouse_learner.replay.ring import Ring
from bakehouse_learner.training.on_policy import recent, without_gaps
from bakehouse_learner.training.returns import Chain, Returns, n_step_returns
from bakehouse_schemas.application.application import Application, Episodic
from bakehouse_schemas.application.reward import DecisionTimes


class ImputedReturns:
    """Returns of one application's decisions, and what remains of the rewards of open ones."""

    def __init__(self, application: Application, ring: Ring) -> None:
        self._application = application
        self.remaining = RemainingReward(ring.groups, application.reward.window_ms)
        self.remembered = 0  # sequences below are in `remaining`

    def returns(self, ring: Ring, stream_time_ms: int) -> Returns:
        """Returns of all resident decisions, by slot; open ones at what is expected of them."""
        problem, used = self._application.problem, np.arange(ring.size)
        known = ring.usable[used]
        if self._application.reward.early == "wait":
            known = known & ring.matured[used]
        reward = ring.reward[used].copy()
        open_ = np.flatnonzero(~ring.matured[used])
        age_ms = ring.known_until_ms(stream_time_ms) - ring.received_at_ms[open_]
        reward[open_] += self.remaining.mean(ring.bucket[open_], np.maximum(age_ms, 0))
        if not isinstance(problem, Episodic):
            alone = Returns(reward, np.zeros(len(used)), used, known)
            return self._on_policy(alone, ring, following=used)
        following = ring.next_sequence[used]
        chain = Chain(
            reward=reward,
            known=known,
            terminal=terminal_slots(ring, problem)[used],
            has_next=ring.has_next[used],
            following=np.where(following >= ring.tail, following % ring.capacity, -1),
        )
        returns = n_step_returns(chain, used, discount=problem.discount, n_step=problem.n_step)
        return self._on_policy(returns, ring, following=chain.following)

    def _on_policy(self, returns: Returns, ring: Ring, *, following: np.ndarray) -> Returns:
        """Of an agent on policy, only what the newest policies decided is trainable."""
        parameters = self._application.agent.parameters
        if "max_policy_lag" not in parameters:
            return returns
        most, used = parameters["max_policy_lag"], slice(0, ring.size)
        mine = recent(ring.policy_version[used], ring.sequence[used], ring.support[used], most=most)
        whole = without_gaps(mine, following, returns.last)
        return returns._replace(trainable=returns.trainable & whole)

    def remember(self, ring: Ring, stream_time_ms: int) -> None:
        """Take decisions whose whole window has passed into the remaining rewards.

        Not those that merely closed early: their like that stay silent are still waiting.
        """
        rule = self._application.reward
        sequence = max(self.remembered, ring.tail)
        while sequence < ring.head:
            slot = sequence % ring.capacity
            received_at_ms = int(ring.received_at_ms[slot])
            if received_at_ms + rule.window_ms > stream_time_ms:
                break
            if ring.usable[slot]:
                times = DecisionTimes(int(ring.decided_at_ms[slot]), received_at_ms)
                outcomes = [o.timed() for o in ring.known(slot).outcomes if o.kind != "next"]
                self.remaining.add(
                    int(ring.action[slot]) if ring.labels else 0,
                    curve(rule, times, outcomes, self.remaining.edges),
                )
            sequence += 1
        self.remembered = sequence

    def restore(self, remaining: Mapping[str, np.ndarray], remembered: int) -> None:
        """Continue as if what held these had never stopped."""
        self.remaining.restore(remaining)
        self.remembered = remembered
