"""Tasks, one a file, as pure functions; importing this also registers them as `vfcompare/...-v0`.

Only the names are registered: JAX is imported when an environment is made.
"""

import gymnasium

_TASKS: dict[str, tuple[str, dict, int | None]] = {
    "Maze": ("maze:Maze", {}, None),
    "MazeDense": ("maze:Maze", {"reward": "dense"}, None),
    "MazePartial": ("maze:Maze", {"view": "partial"}, None),
    "Lock": ("lock:Lock", {}, None),
    "Delayed": ("delayed:Delayed", {}, None),
    "Garnet": ("garnet:Garnet", {}, None),
    "FrozenLake": ("tabular:Tabular", {"id": "FrozenLake-v1"}, 100),
    "FrozenLake8x8": ("tabular:Tabular", {"id": "FrozenLake8x8-v1"}, 200),
    "CliffWalking": ("tabular:Tabular", {"id": "CliffWalking-v1", "horizon": 200}, 200),
    "Taxi": ("tabular:Tabular", {"id": "Taxi-v4"}, 200),
    "CartPole": ("cartpole:CartPole", {}, 500),
    "Acrobot": ("acrobot:Acrobot", {}, 500),
    "MountainCar": ("mountain_car:MountainCar", {}, 200),
    "Pendulum": ("pendulum:Pendulum", {}, 200),
    "Addition": ("tokens.addition:Addition", {}, None),
    "AdditionScratch": ("tokens.addition:Addition", {"scratch": True}, None),
    "ModularSum": ("tokens.modular_sum:ModularSum", {}, None),
    "Sorting": ("tokens.rearrangement:Sorting", {}, None),
    "Reversal": ("tokens.rearrangement:Reversal", {}, None),
    "Brackets": ("tokens.brackets:Brackets", {}, None),
    "Countdown": ("tokens.countdown:Countdown", {}, None),
    "MazeText": ("tokens.maze_text:MazeText", {}, None),
    "GoldMold": ("tokens.gold_mold:GoldMold", {}, None),
}
"""Name: class, options, and the time limit where it is not part of the task."""


def _register(name: str, target: str, options: dict, limit: int | None) -> None:
    """Register one environment, once."""
    if name not in gymnasium.registry:
        gymnasium.register(
            id=name,
            entry_point="vfcompare.envs.adapter:make",
            kwargs={"target": target, **options},
            max_episode_steps=limit,
        )


for _name, (_target, _options, _limit) in _TASKS.items():
    _register(f"vfcompare/{_name}-v0", _target, _options, _limit)
    if _limit is not None:
        _outcome = {**_options, "outcome_only": True}
        _register(f"vfcompare/{_name}Outcome-v0", _target, _outcome, None)
