"""Who plays: every agent, environment and study as YAML."""

import math
from typing import Any

from omegaconf import OmegaConf


def times(*factors: Any) -> Any:
    """The product of numbers; the last factor as it is where that is none, for who checks it to refuse."""
    numbers = all(isinstance(factor, int | float) for factor in factors)
    return math.prod(factors) if numbers else factors[-1]


# A number that follows from another one, `${times:5,${agent.optimizer.learning_rate}}`. It is registered
# here so that it is known wherever these files are read, also by other programs.
OmegaConf.register_new_resolver("times", times, replace=True)
