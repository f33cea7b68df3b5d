"""Pendulum-v1: swing up and hold; continuous action, a cost at every step, no end."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.envs.phys2d.pendulum import PendulumFunctional, PendulumParams
from gymnasium.spaces import Box

from . import drawing
from .base import Reference, Task


class State(NamedTuple):
    """Angle from upright (radians, not wrapped) and its speed, float32[] each."""

    theta: jax.Array
    theta_dot: jax.Array


class Pendulum(Task):
    """Gymnasium's Pendulum-v1, step for step, on Gymnasium's own JAX dynamics.

    Isolates a continuous action with dense, informative cost and no ending: the case for bootstrapping.

    *Action.* float32[1], torque from -2 to 2, clipped. *Observation.* float32[3]: cosine and sine of the
    angle, speed within 8. *Reward.* -(angle^2 + 0.1 speed^2 + 0.001 torque^2), at least -16.27.
    *End.* Never; truncated at 200 steps, which the task does not know.
    *Optimum.* Not known exactly; Gymnasium gives no threshold. *Source.* Gymnasium 1.4, `phys2d/pendulum.py`.
    """

    horizon = 200
    action_space = Box(-2.0, 2.0, (1,), np.float32)
    observation_space = Box(
        -np.array([1.0, 1.0, 8.0], np.float32), np.array([1.0, 1.0, 8.0], np.float32)
    )

    def __init__(self):
        super().__init__()
        self._physics = PendulumFunctional()

    def _constants(self, params: Any) -> Any:
        return self.default_params if params is None else params

    def get_default_params(self, **kwargs):
        """Pendulum-v1's constants."""
        return PendulumParams(**kwargs)

    @property
    def reference(self) -> Reference:
        """Random: measured.

        `random_return(Pendulum(), 20_000)` of `vfcompare.envs.base` gives -1226.8, standard error 2.0.
        """
        return Reference(random=-1226.8)

    def initial(self, rng, params=None):
        """Any angle, speed within 1."""
        return State(*self._physics.initial(rng, self._constants(params)))

    def transition(self, state, action, rng, params=None):
        """One semi-implicit Euler step of 0.05 s."""
        return State(*self._physics.transition(state, action, rng, self._constants(params)))

    def observation(self, state, rng, params=None):
        """Cosine, sine and speed: float32[3]."""
        del rng, params
        return jnp.stack([jnp.cos(state.theta), jnp.sin(state.theta), state.theta_dot])

    def reward(self, state, action, next_state, rng, params=None):
        """Minus the cost of angle, speed and torque: float32[]."""
        constants = self._constants(params)
        return self._physics.reward(state, action, next_state, rng, constants)

    def terminal(self, state, rng, params=None):
        """Never."""
        del rng, params
        return jnp.zeros_like(state.theta, dtype=bool)

    def draw(self, state) -> np.ndarray:
        """The rod, upright at angle zero."""
        image = drawing.canvas(300, 300)
        theta = float(state.theta)
        # Gymnasium's pictures turn the rod counter-clockwise for a growing angle.
        tip = (150 - 105 * np.sin(theta), 150 - 105 * np.cos(theta))
        drawing.line(image, (150, 150), tip, 22, drawing.RED)
        drawing.disk(image, (150, 150), 6, drawing.INK)
        return drawing.finish(image)
