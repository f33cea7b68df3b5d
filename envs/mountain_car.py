"""MountainCar-v0: a cost per step until the flag; random actions never see it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from . import drawing
from .base import Reference, Task

LOW, HIGH, TOP_SPEED, GOAL = -1.2, 0.6, 0.07, 0.5


class State(NamedTuple):
    """Position and velocity, float32[] each."""

    position: jax.Array
    velocity: jax.Array


class MountainCar(Task):
    """Gymnasium's MountainCar-v0, step for step.

    Isolates exploration: the car must first drive away from the goal, and every episode of a random policy
    has the same return, so that no method has anything to learn from.

    *Action.* 0 push left, 1 coast, 2 push right. *Observation.* float32[2]: position from -1.2 to 0.6,
    velocity within 0.07. *Reward.* -1 per step. *End.* Terminates at position 0.5; truncated at 200 steps,
    which the task does not know.
    *Optimum.* Not known exactly; solved from -110 (Gymnasium). *Source.* Moore (1990); Gymnasium 1.4,
    `classic_control/mountain_car.py`.
    """

    horizon = 200
    action_space = Discrete(3)
    observation_space = Box(
        np.array([LOW, -TOP_SPEED], np.float32), np.array([HIGH, TOP_SPEED], np.float32)
    )

    @property
    def reference(self) -> Reference:
        """Threshold: Gymnasium's. Random: measured.

        `random_return(MountainCar(), 100_000)` of `vfcompare.envs.base`: all 100,000 episodes gave -200.
        """
        return Reference(random=-200.0, threshold=-110.0)

    def initial(self, rng, params=None):
        """At rest, position uniform in -0.6 to -0.4."""
        del params
        position = jax.random.uniform(rng, minval=-0.6, maxval=-0.4)
        return State(position, jnp.zeros_like(position))

    def transition(self, state, action, rng, params=None):
        """Push, gravity and an inelastic wall on the left."""
        del rng, params
        push = (jnp.asarray(action, jnp.float32) - 1.0) * 0.001
        velocity = state.velocity + (push - 0.0025 * jnp.cos(3.0 * state.position))
        velocity = jnp.clip(velocity, -TOP_SPEED, TOP_SPEED)
        position = jnp.clip(state.position + velocity, LOW, HIGH)
        at_wall = (position == jnp.float32(LOW)) & (velocity < 0.0)
        return State(position, jnp.where(at_wall, 0.0, velocity))

    def observation(self, state, rng, params=None):
        """The state as float32[2]."""
        del rng, params
        return jnp.stack(state)

    def reward(self, state, action, next_state, rng, params=None):
        """Minus one for every step taken: float32[]."""
        del state, action, rng, params
        return -jnp.ones_like(next_state.position)

    def terminal(self, state, rng, params=None):
        """At the flag, moving right."""
        del rng, params
        return (state.position >= GOAL) & (state.velocity >= 0.0)

    def draw(self, state) -> np.ndarray:
        """The valley, the flag and the car."""
        image = drawing.canvas(300, 480)

        def point(position, lift=0.0):
            height = np.sin(3 * position) * 0.45 + 0.55
            slope = np.arctan(1.35 * np.cos(3 * position))
            x, y = (position - LOW) / (HIGH - LOW) * 480, 275 - height * 220
            return x - lift * np.sin(slope), y - lift * np.cos(slope)

        curve = [point(position) for position in np.linspace(LOW, HIGH, 61)]
        drawing.polyline(image, curve, 4, drawing.INK)
        x, y = point(GOAL)
        drawing.line(image, (x, y), (x, y - 48), 3, drawing.INK)
        drawing.box(image, (x + 13, y - 40), (24, 16), drawing.GREEN)
        position = float(state.position)
        slope = np.arctan(1.35 * np.cos(3 * position) * 220 / 480 * (HIGH - LOW))
        drawing.box(image, point(position, 16), (40, 18), drawing.BLUE, angle=-slope, corner=5)
        for wheel in (-0.045, 0.045):
            drawing.disk(image, point(position + wheel, 6), 7, drawing.INK)
        return drawing.finish(image)
