"""What several tests ask of an estimator."""

import jax
import jax.numpy as jnp

from vfcompare.types import Access

KEY = jax.random.key(0)


def refuse(*args, **options):
    raise AssertionError("this was not to be asked for")


def access(**known):
    """Access to what is given, and to nothing else."""
    nothing = {"simulate": refuse, "value": refuse, "log_prob": refuse, "score": refuse}
    still = {"progress": jnp.float32(1.0), "moved": jnp.float32(0.0)}
    return Access(**{**nothing, **still, **known})


def ask(estimator, rollout, reach=None, networks=None, key=KEY):
    """The estimate of an estimator that has not seen anything before."""
    networks = networks or {}
    memory = estimator.init(networks)
    return estimator.estimate(memory, networks, rollout, reach or access(), key)
