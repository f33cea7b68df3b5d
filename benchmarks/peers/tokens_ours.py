"""vfcompare's own GRPO on answers of one length: one seed on each core, by the recipe for tokens."""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete

from benchmarks.peers import token_recipe as recipe
from benchmarks.peers.ours import train
from vfcompare.agents.policies import categorical
from vfcompare.assemble import assemble
from vfcompare.commands.compose import cells
from vfcompare.envs.tokens.base import FIRST, State, Transcript
from vfcompare.training import devices
from vfcompare.training.sharding import over_seeds
from vfcompare.training.trainer import Trainer
from vfcompare.types import Policy, Spec

BLOCKS = (8, 16, 32, 64)
"""Episodes that are computed at once, of which the fastest counts."""


class Letters(Transcript):
    """Letters after letters, none of which ends; what pays is the share of one of them."""

    passes = None

    def __init__(self) -> None:
        letters = [chr(ord("a") + i) for i in range(recipe.VOCABULARY - FIRST)]
        super().__init__(
            vocabulary=["<pad>", "<eos>", *letters],
            legal=range(FIRST, recipe.VOCABULARY),
            prompt_length=recipe.PROMPT,
            answer_length=recipe.NEW,
        )

    def initial(self, rng, params=None):
        """A row of letters."""
        prompt = jax.random.randint(rng, (recipe.PROMPT,), FIRST, recipe.VOCABULARY)
        return State(jnp.pad(prompt, (0, recipe.NEW)), jnp.int32(0))

    def transition(self, state, action, rng, params=None):
        """Write the letter."""
        here = jnp.arange(self.length) == self.prompt_length + state.time
        return State(jnp.where(here, action, state.tokens), state.time + 1)

    def terminal(self, state, rng, params=None):
        """When the row is full."""
        return state.time >= recipe.NEW

    def reward(self, state, action, next_state, rng, params=None):
        """The share of the first letter, once."""
        share = (next_state.tokens[recipe.PROMPT :] == FIRST).mean()
        return jnp.where(self.terminal(next_state, rng), share, 0.0)

    def held_out(self):
        """Itself."""
        return self


def config(block: int) -> dict[str, Any]:
    """The agent's configuration, the numbers said again."""
    (cell,) = cells(
        [
            *("agent=grpo", "+recipe=tokens", "env=addition"),
            *(f"agent.network.layers={recipe.LAYERS}", f"agent.network.width={recipe.WIDTH}"),
            f"agent.network.heads={recipe.HEADS}",
            f"agent.network.expansion={recipe.EXPANSION}",
            f"agent.collector.prompts={recipe.PROMPTS}",
            f"agent.collector.group={recipe.GROUP}",
            *("agent.batching.epochs=1", "agent.batching.minibatches=1"),
            f"agent.batching.block={block}",
        ],
        sweep=False,
    )
    return {
        name: part for name, part in cell.config["agent"].items() if name not in ("prior", "judge")
    }


def forgetful(actor: Policy, space: Discrete) -> Policy:
    """The same policy that reads everything again at every step."""
    sample = categorical(space).sample

    def act(params: Any, carry: Any, obs: Any, legal: Any, noise: Any) -> Any:
        assert actor.log_probs is not None
        log_probs = actor.log_probs(params, obs, legal)
        action = sample(log_probs, noise)
        return carry, action, log_probs[action]

    return actor._replace(act=act, begin=None, carry=())


def tokens(steps: int) -> int:
    """That all devices write in so many steps."""
    return jax.local_device_count() * recipe.PROMPTS * recipe.GROUP * recipe.NEW * steps


def median_seconds(work: Callable[[], Any]) -> float:
    """Of a call, of five after the first."""
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def sampling() -> dict[str, float]:
    """Tokens per second with and without the cache, of the same policy at the same weights."""
    env, part = Letters(), config(BLOCKS[0])
    gatherer = assemble(part["collector"])(env)
    spec = Spec(env.observation_space, env.action_space, gatherer.shape, False, layout=env.layout)
    actor = assemble(part["policy"])(spec=spec, network=assemble(part["network"]))
    devices = jax.local_device_count()
    seeds = jnp.arange(devices, dtype=jnp.uint32)

    def episodes(policy: Policy, seed: Any) -> Any:
        key = jax.random.key(seed)
        params = actor.init(key, env.observation(env.initial(key), key))
        rollout = gatherer.collect((), policy, params, key, keep_state=False).rollout
        return rollout.action, rollout.log_prob

    rates, written = {}, []
    for name, policy in {
        "sampling": actor,
        "without_cache": forgetful(actor, Discrete(recipe.VOCABULARY)),
    }.items():
        program = partial(over_seeds(partial(episodes, policy), devices, 1), seeds)
        written.append(program())
        rates[name] = tokens(1) / median_seconds(program)
    assert (written[0][0] == written[1][0]).mean() > 0.99, "the cache changes what is written"
    return rates


def step(block: int, steps: int) -> float:
    """Tokens per second of sampling and one update."""
    seeds = list(range(jax.local_device_count()))
    learner = assemble(config(block), env=Letters(), prior=None, judge=None)
    trainer = Trainer(learner, seeds, tokens(4 * steps))
    share = tokens(steps) // len(seeds)
    train(trainer, share)
    return tokens(2 * steps) / train(trainer, 3 * share)


def multiplications() -> dict[str, float]:
    """Multiply-adds of one step in matrices, in units of `2 flops`, by what they are for.

    A pass over `S` tokens of a sequence takes `layers (S (4 + 2 expansion) W^2 + 2 S^2 W)`, and the logits of
    those that are answers `NEW W V`; a gradient twice as many. Without its last token, an episode is read
    once for the gradient and once more to see how far the update went.
    """
    width, length = recipe.WIDTH, recipe.PROMPT + recipe.NEW - 1
    matrices = recipe.LAYERS * (4 + 2 * recipe.EXPANSION) * width**2

    def read(tokens: int) -> int:
        return matrices * tokens + recipe.LAYERS * 2 * tokens**2 * width

    logits = recipe.NEW * width * recipe.VOCABULARY
    sampled = matrices * recipe.NEW + recipe.LAYERS * 2 * recipe.NEW * (length + 1) * width + logits
    answers = recipe.PROMPTS * recipe.GROUP
    return {
        "prompts": recipe.PROMPTS * read(length + 1),
        "sampling": answers * sampled,
        "gradient": 3 * answers * (read(length) + logits),
        "what the update did": answers * (read(length) + logits),
    }


def limit() -> float:
    """Multiply-adds per second of all devices on the perceptron's own matrices."""
    shape = (32 * (recipe.PROMPT + recipe.NEW - 1), recipe.WIDTH, recipe.EXPANSION * recipe.WIDTH)
    repeat, devices = 200, jax.local_device_count()

    def chain(seed: Any) -> Any:
        key = jax.random.key(seed)
        x, up = jax.random.normal(key, shape[:2]), jax.random.normal(key, shape[1:])
        return jax.lax.fori_loop(0, repeat, lambda _, x: (x @ up) @ up.T * 1e-3, x)

    program = over_seeds(chain, devices, 1)
    seconds = median_seconds(lambda: program(jnp.arange(devices, dtype=jnp.uint32)))
    return devices * repeat * 2 * float(np.prod(shape)) / seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10)
    steps = parser.parse_args().steps
    devices.prepare()
    blocks = {block: step(block, steps) for block in BLOCKS}
    found = sampling() | {"step": max(blocks.values()), "limit": limit()}
    print(json.dumps(found | {"blocks": blocks, "work": multiplications()}), flush=True)
