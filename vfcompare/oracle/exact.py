"""The truth by dynamic programming: values, visits and the policy gradient of enumerable environments.

Shapes: `S` places, `A` actions, `K` outcomes of an action, `T` steps of the horizon. A *place* is what a
state is beside the clock. Everything here is about one start state, and so about one maze; `jax.vmap` gives
many. Nothing is bootstrapped at the horizon: like the outcome that methods without a critic learn from, the
truth is the sum of the rewards that fit into it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
from gymnasium.spaces import flatdim

from vfcompare.types import Array, Env, Params, Policy, members

LIMIT = 20_000_000
"""Most numbers `T S A K` that an enumeration may touch: beyond it, one takes minutes rather than seconds."""

LogProbs = Callable[[Array, Array | None], Array]
"""`(obs [S, ...], legal [S, A] or None) -> log π(a|s) [S, A]`."""


class Outcomes(NamedTuple):
    """Where each action may lead at one time step; fields are `[S, A, K]`, rows of probability 0 are padding.

    Attributes:
      probability: of this outcome.
      place: int32, the next place.
      reward: what the transition pays.
      terminal: one where the task itself ends.
    """

    probability: Array
    place: Array
    reward: Array
    terminal: Array


def deterministic(place: Array, reward: Array, terminal: Array) -> Outcomes:
    """One outcome for each action: arguments are `[S, A]`."""
    place, reward, terminal = (x[..., None] for x in (place, reward, terminal))
    return Outcomes(jnp.ones(place.shape), place, reward.astype(float), terminal.astype(float))


class Enumerable(Env, Protocol):
    """An environment whose states can be listed."""

    @property
    def places(self) -> int:
        """`S`."""

    @property
    def spread(self) -> int:
        """`K`, most outcomes of an action."""

    @property
    def contextual(self) -> bool:
        """Whether places and outcomes depend on the start state, as in a new maze each episode."""

    def place(self, state: Any) -> Array:
        """Which place a state is: int32[]."""

    def states(self, start: Any, time: Array) -> Any:
        """All places of the episode that began in `start`, at a time: a batch of `S` states."""

    def outcomes(self, start: Any, time: Array) -> Outcomes:
        """Where each action leads from each place at a time."""


class Exact(NamedTuple):
    """A policy, seen through from one start state.

    Attributes:
      value: `V_t(s)`, `[T + 1, S]`, zero at `T`.
      action_value: `Q_t(s, a)`, `[T, S, A]`.
      log_prob: `log π_t(a|s)`, `[T, S, A]`.
      visits: `[T, S]`, probability of being at a place at a time, with the episode still running.
    """

    value: Array
    action_value: Array
    log_prob: Array
    visits: Array

    @property
    def advantage(self) -> Array:
        """`A_t(s, a) = Q_t(s, a) - V_t(s)`, `[T, S, A]`."""
        return self.action_value - self.value[:-1, :, None]


def require_enumerable(env: Env) -> Enumerable:
    """The environment, if its states can be listed within `LIMIT`.

    Raises:
      ValueError: otherwise, with the numbers.
    """
    name = type(env).__name__
    if not all(hasattr(env, member) for member in members(Enumerable)):
        raise ValueError(
            f"env={name} cannot be enumerated: exact values exist for tabular tasks, garnet, lock, maze, "
            "delayed without distractors, and tasks in tokens with short answers"
        )
    known, actions = cast(Enumerable, env), flatdim(env.action_space)
    size = known.horizon * known.places * actions * known.spread
    if size > LIMIT:
        raise ValueError(
            f"env={name} is too large to be enumerated: {known.horizon} steps x {known.places} places x "
            f"{actions} actions x {known.spread} outcomes = {size:,}, at most {LIMIT:,}"
        )
    return known


Listed = Callable[[Params, Array, Array | None], Array]


def require_listed(log_probs: Listed | None) -> Listed:
    """The probabilities of a policy, if they can be listed.

    Raises:
      ValueError: for continuous actions and for policies with a memory.
    """
    if log_probs is None:
        raise ValueError(
            "agent.policy: exact values need discrete actions and a policy without a memory"
        )
    return log_probs


def listed(policy: Policy, params: Params) -> LogProbs:
    """A policy with these parameters, as the probabilities of all its actions.

    Raises:
      ValueError: where they cannot be listed.
    """
    return partial(require_listed(policy.log_probs), params)


def sharpened(log_probs: LogProbs, sharpness: float) -> LogProbs:
    """The policy with its logits times `sharpness`: 1 leaves it as it is, 0 is uniform over what is legal."""
    if sharpness == 1.0:
        return log_probs

    def rescaled(obs: Array, legal: Array | None) -> Array:
        log_prob = log_probs(obs, legal)
        # What is illegal stays so: a small enough factor would bring it back.
        scaled = sharpness * log_prob
        return jax.nn.log_softmax(scaled if legal is None else jnp.where(legal, scaled, log_prob))

    return rescaled


def observations(env: Enumerable, start: Any, time: Array) -> tuple[Array, Array | None]:
    """What a policy sees of every place at a time: observations `[S, ...]` and legality `[S, A]`, or None."""
    states = env.states(start, time)
    # The observations of enumerable tasks take no randomness.
    obs = jax.vmap(lambda state: env.observation(state, jax.random.key(0)))(states)
    return obs, jax.vmap(env.state_info)(states).get("action_mask")


def backup(outcomes: Outcomes, value: Array, gamma: float) -> Array:
    """`Q(s, a) = Σ_k p_k (r_k + γ (1 - end_k) V(s_k))`, `[S, A]`, from `V [S]` one step later."""
    after = gamma * (1.0 - outcomes.terminal) * value[outcomes.place]
    return (outcomes.probability * (outcomes.reward + after)).sum(-1)


def flow(outcomes: Outcomes, mass: Array) -> Array:
    """Where probability mass `[S, A]` on actions is one step later, `[S]`; what ended is gone."""
    moved = mass[..., None] * outcomes.probability * (1.0 - outcomes.terminal)
    return jnp.zeros(mass.shape[0], mass.dtype).at[outcomes.place].add(moved)


def evaluate(env: Enumerable, log_probs: LogProbs, start: Any, *, gamma: float) -> Exact:
    """See a policy through: `V_t = Σ_a π Q_t`, backwards, and `d_{t+1} = d_t π P`, forwards.

    Bellman (1957). Differentiable in whatever `log_probs` closes over.

    Args:
      env: the environment.
      log_probs: the policy.
      start: one start state.
      gamma: the discount.
    """
    times = jnp.arange(env.horizon)

    def backward(value: Array, time: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        log_prob = log_probs(*observations(env, start, time))
        action_value = backup(env.outcomes(start, time), value, gamma)
        value = (jnp.exp(log_prob) * action_value).sum(-1)
        return value, (value, action_value, log_prob)

    def forward(visits: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        time, log_prob = x
        mass = visits[:, None] * jnp.exp(log_prob)
        return flow(env.outcomes(start, time), mass), visits

    end = jnp.zeros(env.places)
    _, (value, action_value, log_prob) = jax.lax.scan(backward, end, times, reverse=True)
    begin = jnp.zeros(env.places).at[env.place(start)].set(1.0)
    _, visits = jax.lax.scan(forward, begin, (times, log_prob))
    return Exact(jnp.concatenate([value, end[None]]), action_value, log_prob, visits)


def policy_gradient(
    env: Enumerable,
    log_probs: Callable[[Params], LogProbs],
    params: Params,
    start: Any,
    *,
    gamma: float,
    fade: float,
) -> Params:
    """`∇J = Σ_t γ^t Σ_s d_t(s) Σ_a ∇π_t(a|s) A_t(s, a)`, in the policy's own parameters.

    The policy gradient theorem (Sutton et al., 2000) at finite horizon. Nearly every actor-critic, ours
    included, leaves out the factor `γ^t` and follows another direction unless γ = 1 (Nota and Thomas, 2020,
    arXiv:1906.07073): `fade=1` gives that one, without error. Who credits all steps with the whole discounted
    return has the factor, and `fade=gamma`.

    Args:
      env: the environment.
      log_probs: `(params) -> LogProbs`.
      params: of the policy.
      start: one start state.
      gamma: the discount.
      fade: weight of each step relative to the one before it.
    """
    truth = jax.lax.stop_gradient(evaluate(env, log_probs(params), start, gamma=gamma))
    times = jnp.arange(env.horizon)
    weight = (fade**times)[:, None, None] * truth.visits[..., None] * truth.advantage

    def surrogate(params: Params) -> Array:
        def step(x: tuple[Array, Array]) -> Array:
            time, weight = x
            probability = jnp.exp(log_probs(params)(*observations(env, start, time)))
            return (probability * weight).sum()

        return jax.lax.map(step, (times, weight)).sum()

    return jax.grad(surrogate)(params)


def along(env: Enumerable, log_probs: LogProbs, states: Any, *, gamma: float) -> Array:
    """`V_t(s_t)` at every state of whole episodes.

    Args:
      env: the environment.
      log_probs: the policy.
      states: `[B, G, T + 1, ...]`, an episode's start in row 0.
      gamma: the discount.

    Returns:
      `[B, G, T + 1]`.
    """
    place = jax.vmap(jax.vmap(jax.vmap(env.place)))(states)
    starts = jax.tree.map(lambda x: x[:, :, 0], states)
    times = jnp.arange(env.horizon + 1)

    def values(start: Any) -> Array:
        return evaluate(env, log_probs, start, gamma=gamma).value

    if not env.contextual:
        table = values(jax.tree.map(lambda x: x[0, 0], starts))
        return table[times, place]
    # Every episode by itself: its group may or may not have begun where it did.
    return jax.vmap(jax.vmap(lambda start, place: values(start)[times, place]))(starts, place)
