"""CartPole-v1: balance a pole; a reward at every step, failure ends the episode."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.envs.phys2d.cartpole import CartPoleFunctional, CartPoleParams
from gymnasium.spaces import Box, Discrete

from . import drawing
from .base import Reference, Task


class State(NamedTuple):
    """Positions and speeds, float32[] each, in metres, radians and seconds."""

    x: jax.Array
    x_dot: jax.Array
    theta: jax.Array
    theta_dot: jax.Array


class CartPole(Task):
    """Gymnasium's CartPole-v1, step for step, on Gymnasium's own JAX dynamics.

    Isolates dense reward with failure at the end: the return is the length of the episode, so each reward
    says little and the ending says all.

    *Action.* 0 push left, 1 push right. *Observation.* float32[4]: position (within 4.8), speed, angle
    (within 0.418), angular speed. *Reward.* 1 per step, the failing one included. *End.* Terminates beyond
    2.4 m or 12 degrees; truncated at 500 steps, which the task does not know.
    *Optimum.* 500, the time limit. *Source.* Barto, Sutton and Anderson (1983); Gymnasium 1.4,
    `phys2d/cartpole.py`. Its default `polemass_length = masspole + length` is not CartPole-v1, which has
    the product: the default parameters here say 0.05.
    """

    horizon = 500
    shortest = 8
    action_space = Discrete(2)
    observation_space = Box(
        -np.array([4.8, np.inf, 24 * np.pi / 180, np.inf], np.float32),
        np.array([4.8, np.inf, 24 * np.pi / 180, np.inf], np.float32),
    )

    def __init__(self):
        super().__init__()
        self._physics = CartPoleFunctional()

    def _constants(self, params: Any) -> Any:
        return self.default_params if params is None else params

    def get_default_params(self, **kwargs):
        """CartPole-v1's constants."""
        return CartPoleParams(**{"polemass_length": 0.1 * 0.5, **kwargs})

    @property
    def reference(self) -> Reference:
        """Optimum: the time limit. Threshold: Gymnasium's. Random: measured.

        `random_return(CartPole(), 100_000)` of `vfcompare.envs.base` gives 22.21, standard error 0.04.
        """
        return Reference(random=22.21, optimal=500.0, threshold=475.0)

    def initial(self, rng, params=None):
        """All four numbers uniform in -0.05 to 0.05."""
        return State(*self._physics.initial(rng, self._constants(params)))

    def transition(self, state, action, rng, params=None):
        """One Euler step of 0.02 s."""
        action = jnp.asarray(action, jnp.float32)
        return State(*self._physics.transition(state, action, rng, self._constants(params)))

    def observation(self, state, rng, params=None):
        """The state as float32[4]."""
        del rng, params
        return jnp.stack(state)

    def reward(self, state, action, next_state, rng, params=None):
        """One for every step taken: float32[]."""
        del state, action, rng, params
        return jnp.ones_like(next_state.x)

    def terminal(self, state, rng, params=None):
        """Off the track or fallen."""
        return self._physics.terminal(state, rng, self._constants(params))

    def draw(self, state) -> np.ndarray:
        """Track, cart and pole."""
        image = drawing.canvas(300, 480)
        scale, ground = 480 / 4.8, 230.0
        x = 240 + float(state.x) * scale
        drawing.line(image, (0, ground), (480, ground), 2, drawing.GREY)
        drawing.box(image, (x, ground - 15), (70, 30), drawing.INK, corner=4)
        theta, axle = float(state.theta), ground - 26
        tip = (x + 130 * np.sin(theta), axle - 130 * np.cos(theta))
        drawing.line(image, (x, axle), tip, 12, drawing.GOLD)
        drawing.disk(image, (x, axle), 5, drawing.BLUE)
        return drawing.finish(image)
