"""Gradient descent: N minibatches inside one compiled TensorFlow function.

The function is compiled once, by XLA, for blocks of a fixed shape; how many minibatches of a
block are real is an argument. Measured on one core (DQN, 16 → 64 → 64 → 4, minibatch 64):
12 thousand minibatches a second, 6 thousand as a plain TensorFlow graph; compiling takes 0.8 s
against 0.3 s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bakehouse_learner.training.batch import Batch
from bakehouse_learner.training.normaliser import Normaliser, item_normaliser
from bakehouse_learner.training.reward_scale import RewardScale, Rewrite
from bakehouse_learner.training.specs import Minibatch, minibatch_signature
from bakehouse_learner.training.tensorflow_setup import tf
from bakehouse_schemas.application.application import Application

MOST_STEPS_A_BLOCK = 64
# A prior for every kernel, worth this many decisions: what is left of it after n of them is
# RIDGE / n. With 2,000 decisions of level-difficulty it lifts neural_greedy's share from 0.87 to
# 0.96, and, where noise is 19 parts in 20 of the reward, after 16,000 from 0.57 to 0.92.
RIDGE = 20.0
GRADIENT_NORM = 10.0  # in reward units about one: cuts what an outlier does, not what a row does


class Update(NamedTuple):
    """A further loss, of variables of its own.

    Args:
        loss: mean loss of one `Minibatch`, scalar.
        variables: what it is differentiated by.
        optimiser: a legacy Keras optimiser, its slots created.
        every: it is taken once in so many steps.
    """

    loss: Callable[[Minibatch], Any]
    variables: list[Any]
    optimiser: Any
    every: int = 1


class Training:
    """A loss and the variables that it trains, compiled.

    Args:
        application: for the shapes.
        loss: mean loss of one `Minibatch`, scalar; rewards and values come normalised. Where
            `prioritised`, a pair: the mean loss, and |error| of each row `[B]`.
        variables: what the loss is differentiated by.
        optimiser: a legacy Keras optimiser, its slots created.
        last_layers: pairs (kernel, bias) that are rewritten when the reward's unit moves.
        after_step: called in the graph after each step with the number of steps taken.
        then: further losses of the same minibatch, taken one after the other before `after_step`.
        steps: counter of the steps taken, where a loss reads it too. int64
    """

    def __init__(
        self,
        application: Application,
        *,
        loss: Callable[[Minibatch], Any],
        variables: list[Any],
        optimiser: Any,
        last_layers: list[tuple[Any, Any]],
        after_step: Callable[[Any], None],
        prioritised: bool = False,
        then: Sequence[Update] = (),
        steps: Any | None = None,
    ) -> None:
        self.rows = application.training.batch
        signature = minibatch_signature(application)
        self._items_shape: tuple[int, ...] = tuple(signature.items.shape)
        self._items = item_normaliser(application).apply
        self.block = min(application.training.steps, MOST_STEPS_A_BLOCK)
        self._prioritised = prioritised
        self.steps = counter() if steps is None else steps

        kernels = [variable for variable in variables if len(variable.shape) == 2]

        def step(batch: Minibatch, ridge: Any) -> tuple[Any, Any, Any]:
            with tf.GradientTape() as tape:
                value, errors = loss(batch) if prioritised else (loss(batch), None)
                total = value + ridge * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
            norm = _descend(tape.gradient(total, variables), variables, optimiser)
            for update in then:
                _take(update, batch, self.steps)
            after_step(self.steps.assign_add(1))
            return value, norm, errors

        def run(
            batches: Minibatch, count: Any, ridge: Any, ratio: Any, shift: Any
        ) -> tuple[Any, Any, Any]:
            for kernel, bias in last_layers:
                kernel.assign(kernel * ratio)
                bias.assign(bias * ratio + shift)

            def body(at: Any, losses: Any, norms: Any, found: Any) -> tuple[Any, ...]:
                batch = Minibatch(*(column[at] for column in batches))
                value, norm, errors = step(batch, ridge)
                if prioritised:
                    found = tf.tensor_scatter_nd_update(found, [[at]], errors[None])
                return at + 1, losses + value, norms + norm, found

            zero = tf.constant(0.0)
            found = tf.zeros([self.block if prioritised else 0, self.rows])
            _, losses, norms, found = tf.while_loop(
                lambda at, *_: at < count, body, (tf.constant(0), zero, zero, found)
            )
            return losses, norms, found

        scalar = tf.TensorSpec([], tf.float32)
        self.compiled = tf.function(
            run,
            input_signature=[
                minibatch_signature(application, self.block, self.rows),
                tf.TensorSpec([], tf.int32),
                scalar,
                scalar,
                scalar,
            ],
            jit_compile=True,
            autograph=False,
        )
        self._traced: Any = None  # `compiled` without the search for a trace that fits

    def __call__(
        self, batch: Batch, normaliser: Normaliser, scale: RewardScale
    ) -> tuple[dict[str, float], np.ndarray | None]:
        """Take a gradient step on each minibatch that has a row of weight above 0.

        Rows of weight 0 have no influence. Rewards are learned in the units of `scale`, which
        first takes in this batch's.

        Returns:
            `loss`: mean over the steps, without the ridge; of a squared error, 1 is what
            predicting the mean reward would lose. `gradient_norm`: before it is cut. Empty where
            no row was to learn from.
            Where prioritised, |error| of each row when it was trained on, in units `[N, B]`; NaN
            where it was not.

        Raises:
            ValueError: more rows than the application's minibatch.
        """
        rows = batch.weight.shape[1]
        if rows > self.rows:
            raise ValueError(
                f"minibatches of {rows} rows came; training is compiled for at most {self.rows} "
                "(Training(batch=…)); nothing was trained"
            )
        if self._traced is None:
            self._traced = self.compiled.get_concrete_function()
        real = batch.weight > 0.0  # [N, B]
        chosen = np.flatnonzero(real.any(axis=1))
        if not len(chosen):
            return {}, None
        rewrite = scale.update(batch.reward[real])
        ridge = np.float32(RIDGE / (batch.resident or int(real.sum())))
        errors = np.full(batch.weight.shape, np.nan, np.float32) if self._prioritised else None
        losses = norms = 0.0
        for start in range(0, len(chosen), self.block):
            block = chosen[start : start + self.block]
            columns = self._columns(batch, block, normaliser, scale)
            loss, norm, found = self._traced(
                Minibatch(*(tf.convert_to_tensor(column) for column in columns)),
                tf.constant(len(block), tf.int32),
                tf.constant(ridge),
                tf.constant(rewrite.ratio, tf.float32),
                tf.constant(rewrite.shift, tf.float32),
            )
            losses, norms = losses + float(loss), norms + float(norm)
            rewrite = Rewrite(1.0, 0.0)
            if errors is not None:
                errors[block] = np.where(real[block], found.numpy()[: len(block), :rows], np.nan)
        return {"loss": losses / len(chosen), "gradient_norm": norms / len(chosen)}, errors

    def _columns(
        self, batch: Batch, chosen: np.ndarray, normaliser: Normaliser, scale: RewardScale
    ) -> Minibatch:
        """The chosen minibatches, padded to the compiled shape."""
        together = chosen[-1] - chosen[0] + 1 == len(chosen)
        block = slice(chosen[0], chosen[-1] + 1) if together else chosen  # a slice copies nothing
        weight = batch.weight[block].astype(np.float64)
        weight *= self.rows / weight.sum(axis=1, keepdims=True)  # a loss divides by the rows
        columns = Minibatch(
            values=normaliser.apply(batch.observation[block]),
            eligible=batch.eligible[block],
            action=batch.action[block],
            reward=scale.in_units(batch.reward[block]),
            discount=batch.discount[block],
            next_values=normaliser.apply(batch.next_observation[block]),
            next_eligible=batch.next_eligible[block],
            weight=weight.astype(np.float32),
            propensity=(
                np.ones(weight.shape, np.float32)
                if batch.propensity is None
                else batch.propensity[block]
            ),
            items=(
                np.zeros((*weight.shape, *self._items_shape), np.float32)
                if batch.items is None
                else self._items(batch.items[block])
            ),
        )
        if not np.all(weight):
            # such a row may hold anything, and 0 · NaN must not get into the sum
            columns = Minibatch(*(_emptied(column, weight == 0.0) for column in columns))
        return Minibatch(*(self._padded(column) for column in columns))

    def _padded(self, column: np.ndarray) -> np.ndarray:
        if column.shape[:2] == (self.block, self.rows):
            return column
        padded = np.zeros((self.block, self.rows, *column.shape[2:]), column.dtype)
        padded[: column.shape[0], : column.shape[1]] = column
        return padded


def counter() -> Any:
    """A variable that counts the steps taken."""
    return tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")


def _descend(gradients: list[Any], variables: list[Any], optimiser: Any) -> Any:
    """One step against the gradients, cut; none where they are not finite. Their norm."""
    norm = tf.linalg.global_norm(gradients)
    sound = tf.math.is_finite(norm)
    factor = GRADIENT_NORM / tf.maximum(norm, GRADIENT_NORM)
    # `where`, not a product: 0 · NaN is NaN, and one bad step would be the last
    gradients = [tf.where(sound, g * factor, tf.zeros_like(g)) for g in gradients]
    optimiser.apply_gradients(zip(gradients, variables, strict=True))
    return norm


def _take(update: Update, batch: Minibatch, steps: Any) -> None:
    """The update on this minibatch, if it is its turn."""

    def taken() -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(update.variables)
            value = update.loss(batch)
        return _descend(tape.gradient(value, update.variables), update.variables, update.optimiser)

    if update.every == 1:
        taken()
    else:
        tf.cond(steps % update.every == 0, taken, lambda: tf.constant(0.0))


def _emptied(column: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The column, zero in the rows of the mask `[N, B]`."""
    emptied = column.copy()
    emptied[where] = 0
    return emptied
