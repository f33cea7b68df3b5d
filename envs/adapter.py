"""What `gymnasium.make("vfcompare/...")` returns: a task of ours as an ordinary environment in numpy."""

import importlib
from typing import Any

import jax
import numpy as np
from gymnasium.envs.functional_jax_env import FunctionalJaxEnv
from gymnasium.wrappers import TimeLimit

from .base import Task
from .wrappers import OutcomeOnly


class NumpyEnv(FunctionalJaxEnv):
    """One episode at a time, compiled; observations and actions are numpy arrays.

    Unlike its base, which hands one key to transition, observation and reward, each gets a key of its own.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, task: Task, render_mode: str | None = None):
        super().__init__(task, metadata=self.metadata, render_mode=render_mode)
        self._start = jax.jit(self._start_episode)
        self._advance = jax.jit(self._advance_episode)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Start an episode; a seed makes it and all that follow reproducible."""
        # The base draws the first state itself; only its seeding is wanted.
        super(FunctionalJaxEnv, self).reset(seed=seed, options=options)
        if seed is not None:
            self.rng = jax.random.key(seed)
        self.rng, self.state, obs, info = self._start(self.rng)
        return np.array(obs), _numpy(info)

    def step(self, action):
        """Take one step; the time limit, if it is not part of the task, is a wrapper of `make`."""
        out = self._advance(self.rng, self.state, np.asarray(action))
        self.rng, self.state, obs, reward, terminated, info = out
        return np.array(obs), float(reward), bool(terminated), False, _numpy(info)

    def _start_episode(self, key):
        key, start_key, obs_key = jax.random.split(key, 3)
        task: Any = self.func_env
        state = task.initial(start_key)
        return key, state, task.observation(state, obs_key), task.state_info(state)

    def _advance_episode(self, key, state, action):
        key, step_key, obs_key, reward_key = jax.random.split(key, 4)
        task: Any = self.func_env
        new = task.transition(state, action, step_key)
        obs = task.observation(new, obs_key)
        reward = task.reward(state, action, new, reward_key)
        return key, new, obs, reward, task.terminal(new, step_key), task.state_info(new)


def make(
    target: str,
    outcome_only: bool = False,
    render_mode: str | None = None,
    gymnasium_id: str | None = None,
    **options: Any,
):
    """What `gymnasium.make` calls.

    Args:
      target: the task's class, `module:name` of `vfcompare.envs`.
      outcome_only: whether all is paid at the end.
      render_mode: see `gymnasium.make`.
      gymnasium_id: the option `id` of the task: `gymnasium.make_vec` has an argument of that name itself.
      **options: of the task. Where it does not know its time, its `horizon` is the time limit.
    """
    if gymnasium_id is not None:
        options["id"] = gymnasium_id
    module, name = target.split(":")
    task: Task = getattr(importlib.import_module(f".{module}", __package__), name)(**options)
    task = OutcomeOnly(task) if outcome_only else task
    env = NumpyEnv(task, render_mode)
    return env if task.time_aware else TimeLimit(env, task.horizon)


def _numpy(info: dict) -> dict:
    """Arrays as numpy; masks as int8, which Gymnasium's `Discrete.sample` asks for."""
    arrays = {name: np.array(value) for name, value in info.items()}
    return {n: a.astype(np.int8) if a.dtype == bool else a for n, a in arrays.items()}
