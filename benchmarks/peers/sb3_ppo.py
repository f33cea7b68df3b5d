"""Stable-Baselines3 PPO on Gymnasium's CartPole, set to the shared recipe; seeds run one after another."""

import time

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from benchmarks.peers import recipe

WARM_UP_STEPS = 4 * recipe.NUM_ENVS * recipe.NUM_STEPS
EVALUATION_EPISODES = 50


def make(request: recipe.Request, seed: int) -> PPO:
    """Return the algorithm of the request."""
    epochs, minibatches = recipe.SHAPES[request.shape]
    return PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=recipe.NUM_ENVS, seed=seed),
        n_steps=recipe.NUM_STEPS,
        batch_size=recipe.NUM_ENVS * recipe.NUM_STEPS // minibatches,
        n_epochs=epochs,
        learning_rate=lambda remaining: recipe.LEARNING_RATE * remaining,
        gamma=recipe.GAMMA,
        gae_lambda=recipe.GAE_LAMBDA,
        clip_range=recipe.CLIP,
        ent_coef=recipe.ENTROPY_COEF,
        vf_coef=recipe.VALUE_COEF,
        max_grad_norm=recipe.MAX_GRAD_NORM,
        policy_kwargs={
            "activation_fn": torch.nn.Tanh,
            "net_arch": {"pi": list(recipe.HIDDEN), "vf": list(recipe.HIDDEN)},
            "optimizer_kwargs": {"eps": recipe.ADAM_EPS},
        },
        seed=seed,
        device="cpu",
    )


def score(model: PPO) -> float:
    """Return the mean return of the final policy, sampled as it was trained."""
    env = make_vec_env("CartPole-v1", n_envs=recipe.NUM_ENVS, seed=10_000)
    mean, _ = evaluate_policy(
        model, env, n_eval_episodes=EVALUATION_EPISODES, deterministic=False, warn=False
    )
    return float(mean)


def run(request: recipe.Request) -> recipe.Measurement:
    """Train the seeds in turn after a short warm-up; only `learn` is timed."""
    torch.set_num_threads(request.threads)
    make(request, seed=0).learn(WARM_UP_STEPS)
    seconds = 0.0
    final_returns = []
    for seed in range(request.seeds):
        model = make(request, seed)
        start = time.perf_counter()
        model.learn(request.steps)
        seconds += time.perf_counter() - start
        if request.evaluate:
            final_returns.append(score(model))
    return recipe.Measurement(
        steps_per_second=request.seeds * request.steps / seconds,
        compile_seconds=0.0,
        final_returns=final_returns,
    )


if __name__ == "__main__":
    recipe.serve(run)
