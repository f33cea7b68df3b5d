"""vfcompare's own `ppo_cleanrl`, with its defaults: seeds sharded over one host device per core."""

import time
from typing import Any

import numpy as np

from benchmarks.peers import recipe
from vfcompare.training import devices
from vfcompare.training.cell import build

# The recipe, said again: whatever conf/ holds on the day, both sides run the same numbers.
OVERRIDES = [
    "agent=ppo_cleanrl",
    "env=cartpole",
    f"agent.collector.number={recipe.NUM_ENVS}",
    f"agent.collector.length={recipe.NUM_STEPS}",
    f"agent.network.hidden={list(recipe.HIDDEN)}",
    f"agent.gamma={recipe.GAMMA}",
    f"agent.estimator.advantage.lambda_={recipe.GAE_LAMBDA}",
    f"agent.estimator.target.lambda_={recipe.GAE_LAMBDA}",
    f"agent.surrogate.epsilon={recipe.CLIP}",
    f"agent.estimator.critic.head.clip={recipe.CLIP}",
    f"agent.estimator.critic.coef={recipe.VALUE_COEF}",
    f"agent.optimizer.learning_rate={recipe.LEARNING_RATE}",
    f"agent.optimizer.max_grad_norm={recipe.MAX_GRAD_NORM}",
    f"agent.optimizer.eps={recipe.ADAM_EPS}",
    f"agent.entropy_coef={recipe.ENTROPY_COEF}",
]


def make(shape: str) -> Any:
    """Return the learner of the recipe, composed from the project's own configuration."""
    from vfcompare.commands.compose import cells

    epochs, minibatches = recipe.SHAPES[shape]
    batching = [f"agent.batching.epochs={epochs}", f"agent.batching.minibatches={minibatches}"]
    (cell,) = cells([*OVERRIDES, *batching], sweep=False)
    return build(cell.config)


def train(trainer: Any, steps: int) -> float:
    """Train all seeds to the end and return the wall-clock seconds, the host's pauses included."""
    start = time.perf_counter()
    for _ in trainer.chunks(steps):
        pass
    return time.perf_counter() - start


def run(request: recipe.Request) -> recipe.Measurement:
    """Train all seeds twice from the same start; the second time is timed."""
    devices.prepare()
    from vfcompare.training.trainer import Trainer

    start = time.perf_counter()
    trainer = Trainer(make(request.shape), list(range(request.seeds)), request.steps)
    first = trainer.run
    train(trainer, request.steps)
    total = time.perf_counter() - start
    if request.evaluate:
        returns = np.asarray(trainer.evaluate(0)["return_sampled"], float)
        return recipe.Measurement(
            steps_per_second=0.0,
            compile_seconds=trainer.compile_seconds,
            final_returns=returns.reshape(request.seeds, -1).mean(axis=1).tolist(),
        )
    trainer.run = first
    seconds = train(trainer, request.steps)
    return recipe.Measurement(
        steps_per_second=request.seeds * request.steps / seconds,
        compile_seconds=max(0.0, total - seconds),
        final_returns=[],
    )


if __name__ == "__main__":
    recipe.serve(run)
