"""rejax 0.1.3 PPO on gymnax's CartPole, set to the shared recipe; JAX flags as its users have them.

What cannot be set: gradients are clipped elementwise (its `max_grad_norm` is not a norm), Adam's epsilon
is 1e-8, weights start from LeCun's initialiser, and a time limit counts as a termination. None of them
changes the amount of work. Evaluation, which its `train` mixes into training, is switched off.
"""

import time

import jax
import numpy as np
import optax
from rejax import PPO

from benchmarks.peers import recipe


def make(request: recipe.Request) -> PPO:
    """Return the algorithm of the request; it evaluates once, at the end, or never."""
    epochs, minibatches = recipe.SHAPES[request.shape]
    algorithm = PPO.create(
        env="CartPole-v1",
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": recipe.HIDDEN},
        num_envs=recipe.NUM_ENVS,
        num_steps=recipe.NUM_STEPS,
        num_epochs=epochs,
        num_minibatches=minibatches,
        learning_rate=optax.linear_schedule(recipe.LEARNING_RATE, 0.0, request.gradient_steps),
        gamma=recipe.GAMMA,
        gae_lambda=recipe.GAE_LAMBDA,
        clip_eps=recipe.CLIP,
        ent_coef=recipe.ENTROPY_COEF,
        vf_coef=recipe.VALUE_COEF,
        max_grad_norm=recipe.MAX_GRAD_NORM,
        total_timesteps=request.steps,
        eval_freq=request.steps,
        skip_initial_evaluation=True,
    )
    if request.evaluate:
        return algorithm
    return algorithm.replace(eval_callback=lambda algorithm, state, key: ())


def run(request: recipe.Request) -> recipe.Measurement:
    """Train all seeds in one compiled call, twice; the second is timed."""
    train = make(request).train
    keys = jax.random.split(jax.random.key(0), request.seeds)
    start = time.perf_counter()
    # Its own README maps seeds this way; for one seed the mapped axis would only cost.
    if request.seeds == 1:
        compiled, argument = jax.jit(train).lower(keys[0]).compile(), keys[0]
    else:
        compiled, argument = jax.jit(jax.vmap(train)).lower(keys).compile(), keys
    compile_seconds = time.perf_counter() - start
    _, evaluation = jax.block_until_ready(compiled(argument))
    if request.evaluate:
        _, returns = evaluation
        final_returns = np.reshape(returns, (request.seeds, -1)).mean(axis=1).tolist()
        return recipe.Measurement(
            steps_per_second=0.0, compile_seconds=compile_seconds, final_returns=final_returns
        )
    start = time.perf_counter()
    jax.block_until_ready(compiled(argument))
    seconds = time.perf_counter() - start
    return recipe.Measurement(
        steps_per_second=request.seeds * request.steps / seconds,
        compile_seconds=compile_seconds,
        final_returns=[],
    )


if __name__ == "__main__":
    recipe.serve(run)
