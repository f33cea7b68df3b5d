"""Tasks, one a file, as pure functions; importing this also registers them as `vfcompare/...-v0`.

Only the names are registered: JAX is imported when an environment is made.
"""

import gymnasium

_TASKS: dict[str, tuple[str, dict, bool]] = {
    "Maze": ("maze:Maze", {}, False),
    "MazeDense": ("maze:Maze", {"reward": "dense"}, False),
    "MazePartial": ("maze:Maze", {"view": "partial"}, False),
    "Lock": ("lock:Lock", {}, False),
    "Delayed": ("delayed:Delayed", {}, False),
    "Garnet": ("garnet:Garnet", {}, False),
    "FrozenLake": ("tabular:Tabular", {"gymnasium_id": "FrozenLake-v1"}, True),
    "FrozenLake8x8": ("tabular:Tabular", {"gymnasium_id": "FrozenLake8x8-v1"}, True),
    "CliffWalking": ("tabular:Tabular", {"gymnasium_id": "CliffWalking-v1", "horizon": 200}, True),
    "Taxi": ("tabular:Tabular", {"gymnasium_id": "Taxi-v4"}, True),
    "CartPole": ("cartpole:CartPole", {}, True),
    "Acrobot": ("acrobot:Acrobot", {}, True),
    "MountainCar": ("mountain_car:MountainCar", {}, True),
    "Pendulum": ("pendulum:Pendulum", {}, True),
    "Addition": ("tokens.addition:Addition", {}, False),
    "AdditionScratch": ("tokens.addition:Addition", {"scratch": True}, False),
    "ModularSum": ("tokens.modular_sum:ModularSum", {}, False),
    "Sorting": ("tokens.rearrangement:Sorting", {}, False),
    "Reversal": ("tokens.rearrangement:Reversal", {}, False),
    "Brackets": ("tokens.brackets:Brackets", {}, False),
    "Countdown": ("tokens.countdown:Countdown", {}, False),
    "MazeText": ("tokens.maze_text:MazeText", {}, False),
    "GoldMold": ("tokens.gold_mold:GoldMold", {}, False),
}
"""Name: class, options, and whether it has a twin that pays at the end only."""


def _register(name: str, target: str, options: dict) -> None:
    """Register one environment, once."""
    if name not in gymnasium.registry:
        # A time limit follows from the task's `horizon`, which whoever makes it may set: see `adapter.make`.
        gymnasium.register(
            id=name,
            entry_point="vfcompare.envs.adapter:make",
            kwargs={"target": target, **options},
        )


for _name, (_target, _options, _twin) in _TASKS.items():
    _register(f"vfcompare/{_name}-v0", _target, _options)
    if _twin:
        _register(f"vfcompare/{_name}Outcome-v0", _target, {**_options, "outcome_only": True})
