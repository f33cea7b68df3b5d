"""A policy and its critic laid out over the squares of a maze: the lab's measurements as pictures.

Values, chances and signs are those of the first step, with all the time left, on every square; visits are
those of whole episodes.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vfcompare.oracle import exact
from vfcompare.oracle.diagnostics import Examined, Lab, Reader, pool_of, reader
from vfcompare.types import Array, Env, Key

STARTS = 3
"""Start states that are drawn, the first ones of the lab's pool."""

SLACK = 1e-6
"""Advantages within this of zero have no sign."""


def drawable(env: Env) -> bool:
    """Whether the states of an environment have walls, squares and a goal."""
    state = jax.eval_shape(env.initial, jax.random.key(0))
    return all(hasattr(state, name) for name in ("walls", "row", "column", "goal_row"))


def draw(lab: Lab, subject: Examined, state: Any, key: Key) -> dict[str, Array]:
    """Lay the truth, and what a critic says of it, over the first start states.

    Args:
      lab: how large the pool is.
      subject: what is examined, a maze with `S` squares and `A` actions.
      state: the learner's, of which `params` and the estimator's `memory` are read.
      key: that of `vfcompare.oracle.diagnostics.examine`, so that the pool is the same.

    Returns:
      `walls [n, S]`, `start [n]`, `goal [n]`, `value [n, S]`, `policy [n, S, A]` and `visits [n, S]`,
      the expected number of steps; with a critic `learned [n, S]`, `wrong [n, S]`, the share of actions whose
      advantage has the wrong sign, and of steps the policy takes `wrong_visited [n]` and `rmse_visited [n]`.
    """
    env, read = subject.env, reader(subject, state)
    log_probs = exact.listed(subject.policy, state.params["policy"])

    def lay(start: Any) -> dict[str, Array]:
        truth = exact.evaluate(env, log_probs, start, gamma=subject.gamma)
        found = {
            "walls": start.walls.reshape(-1),
            "start": env.place(start),
            "goal": env.place(start._replace(row=start.goal_row, column=start.goal_column)),
            "value": truth.value[0],
            "policy": jnp.exp(truth.log_prob[0]),
            "visits": truth.visits.sum(0),
        }
        if read is not None:
            found |= compare(env, read, start, truth, subject.gamma)
        return found

    return jax.lax.map(lay, jax.tree.map(lambda x: x[:STARTS], pool_of(env, lab, key)))


def compare(
    env: exact.Enumerable, read: Reader, start: Any, truth: exact.Exact, gamma: float
) -> dict[str, Array]:
    """What a critic says from one start state, by the names of `draw`.

    Its advantage is that of the lookahead, `Q(s, a) = E[r + γ V(s')]` less `Σ_a π Q`.
    """
    chances = jnp.exp(truth.log_prob)

    def at(time: Array) -> tuple[Array, Array, Array]:
        now = read(start, time)
        after = read(start, jnp.minimum(time + 1, env.horizon - 1))
        after = jnp.where(time + 1 < env.horizon, after, 0.0)
        guess = exact.backup(env.outcomes(start, time), after, gamma)
        guess -= (chances[time] * guess).sum(-1, keepdims=True)
        known = truth.advantage[time]
        matters = abs(known) > SLACK
        wrong = matters & (jnp.sign(guess) != jnp.sign(known))
        share = wrong.sum(-1) / jnp.maximum(matters.sum(-1), 1)
        # A square where no action matters has no sign to get wrong.
        share = jnp.where(matters.any(-1), share, jnp.nan)
        return now, share, jnp.square(now - truth.value[time])

    learned, wrong, square = jax.lax.map(at, jnp.arange(env.horizon))
    weight = jnp.where(jnp.isnan(wrong), 0.0, truth.visits)
    return {
        "learned": learned[0],
        "wrong": wrong[0],
        "wrong_visited": (weight * jnp.nan_to_num(wrong)).sum() / jnp.maximum(weight.sum(), SLACK),
        "rmse_visited": jnp.sqrt((truth.visits * square).sum() / truth.visits.sum()),
    }
