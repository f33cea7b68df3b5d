"""Who plays: every agent, environment and study as YAML."""

import math

from omegaconf import OmegaConf

# A number that follows from another one, `${times:5,${agent.optimizer.learning_rate}}`. It is registered
# here so that it is known wherever these files are read, also by other programs.
OmegaConf.register_new_resolver("times", lambda *factors: math.prod(factors), replace=True)
