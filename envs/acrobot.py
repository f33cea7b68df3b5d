"""Acrobot-v1: swing a two-link arm above the bar; a cost per step until then."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from . import drawing
from .base import Reference, Task

STEP = 0.2
TOP_SPEED_1, TOP_SPEED_2 = 4 * np.pi, 9 * np.pi


class State(NamedTuple):
    """Angle of the first link from hanging, of the second from the first, and speeds: float32[] each."""

    theta1: jax.Array
    theta2: jax.Array
    theta1_dot: jax.Array
    theta2_dot: jax.Array


class Acrobot(Task):
    """Gymnasium's Acrobot-v1 ("book" dynamics), step for step.

    Isolates sparse success that random actions do find now and then: the return says how soon.

    *Action.* 0, 1, 2: torque -1, 0, 1 on the joint. *Observation.* float32[6]: cosine and sine of both
    angles, speeds within 4 pi and 9 pi. *Reward.* -1 per step, 0 for the step that succeeds.
    *End.* Terminates when the tip is one link above the bar; truncated at 500 steps, which the task does not
    know. *Optimum.* Not known exactly; solved from -100 (Gymnasium). *Source.* Sutton (1996); Gymnasium 1.4,
    `classic_control/acrobot.py`.
    """

    horizon = 500
    action_space = Discrete(3)
    observation_space = Box(
        -np.array([1, 1, 1, 1, TOP_SPEED_1, TOP_SPEED_2], np.float32),
        np.array([1, 1, 1, 1, TOP_SPEED_1, TOP_SPEED_2], np.float32),
    )

    @property
    def reference(self) -> Reference:
        """Threshold: Gymnasium's. Random: measured.

        `random_return(Acrobot(), 20_000)` of `vfcompare.envs.base` gives -498.91, standard error 0.08.
        """
        return Reference(random=-498.91, threshold=-100.0)

    def initial(self, rng, params=None):
        """All four numbers uniform in -0.1 to 0.1."""
        del params
        return State(*jax.random.uniform(rng, (4,), minval=-0.1, maxval=0.1))

    def transition(self, state, action, rng, params=None):
        """One Runge-Kutta step of 0.2 s, then angles wrapped and speeds clipped."""
        del rng, params
        torque = jnp.asarray(action, jnp.float32) - 1.0
        new = _runge_kutta(state, torque)
        return State(
            _wrap(new.theta1),
            _wrap(new.theta2),
            jnp.clip(new.theta1_dot, -TOP_SPEED_1, TOP_SPEED_1),
            jnp.clip(new.theta2_dot, -TOP_SPEED_2, TOP_SPEED_2),
        )

    def observation(self, state, rng, params=None):
        """Cosines, sines and speeds: float32[6]."""
        del rng, params
        one, two, one_dot, two_dot = state
        parts = (jnp.cos(one), jnp.sin(one), jnp.cos(two), jnp.sin(two), one_dot, two_dot)
        return jnp.stack(parts)

    def reward(self, state, action, next_state, rng, params=None):
        """Minus one until success: float32[]."""
        del state, action
        return jnp.where(self.terminal(next_state, rng, params), 0.0, -1.0)

    def terminal(self, state, rng, params=None):
        """The tip is more than one link above the bar."""
        del rng, params
        return -jnp.cos(state.theta1) - jnp.cos(state.theta2 + state.theta1) > 1.0

    def draw(self, state) -> np.ndarray:
        """Both links and the height to reach."""
        image = drawing.canvas(300, 300)
        drawing.line(image, (0, 85), (300, 85), 2, drawing.GREEN)
        centre = np.array([150.0, 150.0])
        one, both = float(state.theta1), float(state.theta1) + float(state.theta2)
        elbow = centre + 65 * np.array([np.sin(one), np.cos(one)])
        tip = elbow + 65 * np.array([np.sin(both), np.cos(both)])
        for start, end, colour in ((centre, elbow, drawing.BLUE), (elbow, tip, drawing.GOLD)):
            drawing.line(image, tuple(start), tuple(end), 14, colour)
        for joint in (centre, elbow):
            drawing.disk(image, tuple(joint), 5, drawing.INK)
        return drawing.finish(image)


def _runge_kutta(state: State, torque: jax.Array) -> State:
    """Classical fourth-order step."""

    def ahead(slope, time):
        return State(*(s + time * d for s, d in zip(state, slope, strict=True)))

    k1 = _slope(state, torque)
    k2 = _slope(ahead(k1, STEP / 2), torque)
    k3 = _slope(ahead(k2, STEP / 2), torque)
    k4 = _slope(ahead(k3, STEP), torque)
    terms = zip(k1, k2, k3, k4, strict=True)
    return ahead([a + 2.0 * b + 2.0 * c + d for a, b, c, d in terms], STEP / 6)


def _slope(state: State, torque: jax.Array) -> State:
    """Time derivative of the state, with unit masses, lengths and moments, and half-way centres of mass."""
    one, two, one_dot, two_dot = state
    cosine, sine = jnp.cos(two), jnp.sin(two)
    d1 = 3.5 + cosine
    d2 = 1.25 + 0.5 * cosine
    # cos(x - pi/2) = sin(x) spares two cosines of shifted angles.
    phi2 = 4.9 * jnp.sin(one + two)
    phi1 = -0.5 * two_dot**2 * sine - two_dot * one_dot * sine + 14.7 * jnp.sin(one) + phi2
    two_ddot = torque + d2 / d1 * phi1 - 0.5 * one_dot**2 * sine - phi2
    two_ddot = two_ddot / (1.25 - d2**2 / d1)
    return State(one_dot, two_dot, -(d2 * two_ddot + phi1) / d1, two_ddot)


def _wrap(angle: jax.Array) -> jax.Array:
    """The same angle in -pi to pi."""
    return angle - 2 * np.pi * jnp.round(angle / (2 * np.pi))
