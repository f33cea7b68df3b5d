"""What theory predicts, in closed form, for the lab to be held against.

The model of P2 and P3 is a chain of `T` decisions (`vfcompare.envs.lock`) by a tabular policy with one logit
for each step, which is right with probability `q`. Variances are those of one episode's gradient, summed over
the logits. `docs/oracle.md` says where each prediction comes from.
"""

import numpy as np


def signal_share(success: float, group: int) -> float:
    """P1: probability that the rollouts of a group differ, `1 - (1 - p)^G - p^G`."""
    return 1.0 - (1.0 - success) ** group - success**group


def lock_variance(q: float, length: int) -> dict[str, float]:
    """P3: variance of the gradient on the all-or-nothing chain, by estimator.

    `g_t = (a_t - q) A_t` with `R = Π a_t`, so that `E g_t = (1 - q) q^T` for each. `constant` is the baseline
    that makes the variance smallest, `E[s² R] / E[s²] = V_0 (1 - q) / q`.

    Returns:
      `none`, `constant`, `start` (V of the start), `state` (V of the state, λ = 1) and `td` (λ = 0).
    """
    start = q**length
    mean = (1.0 - q) * start

    def baseline(b: float) -> float:
        square = (1.0 - q) ** 2 * start * (1.0 - 2.0 * b) + q * (1.0 - q) * b * b
        return length * (square - mean**2)

    time = np.arange(length)
    alive, now, after = q**time, q ** (length - time), q ** (length - time - 1.0)
    wrong = (1.0 - q) * q**2 * now**2
    luck = after * (1.0 - now) ** 2 + (1.0 - after) * now**2
    state = alive * (q * (1.0 - q) ** 2 * luck + wrong) - mean**2
    td = alive * (q * (1.0 - q) ** 2 * (after - now) ** 2 + wrong) - mean**2
    return {
        "none": baseline(0.0),
        "constant": baseline(start * (1.0 - q) / q),
        "start": baseline(start),
        "state": float(state.sum()),
        "td": float(td.sum()),
    }


def additive_variance(q: float, length: int) -> dict[str, float]:
    """P2: the same where each right decision pays `1 / T` at once.

    The return of the other steps is independent of `a_t`: its square enters without a baseline, the variance
    of what is still to come with a state value, nothing with a perfect critic at λ = 0.
    """
    noise, score = q * (1.0 - q), q * (1.0 - q)
    share = 1.0 / length
    mean = score * share
    own = q * (1.0 - q) ** 4 + (1.0 - q) * q**4

    def centred(others: float) -> float:
        return own * share**2 + score * noise * share**2 * others - mean**2

    left = np.arange(length)
    raw = (1.0 - q) ** 2 * q * ((1.0 + (length - 1) * q) ** 2 + (length - 1) * noise)
    raw += q**2 * (1.0 - q) * (((length - 1) * q) ** 2 + (length - 1) * noise)
    return {
        "none": length * (raw * share**2 - mean**2),
        "start": length * centred(length - 1),
        "state": float(sum(centred(float(n)) for n in left)),
        "td": length * centred(0.0),
    }


def decisive_variance(q: float, length: int, decisive: int, where: str) -> dict[str, float]:
    """P2: all or nothing, but only the first or last `decisive` steps matter; the others are noise."""
    start, score = q**decisive, q * (1.0 - q)
    idle = length - decisive
    inner = lock_variance(q, decisive)
    outcome = start * (1.0 - start)
    # What the noise of an idle step is multiplied with: the return, R - V_0, or what is not known yet.
    unknown = 0.0 if where == "early" else outcome
    return {
        "none": inner["none"] + idle * score * start,
        "start": inner["start"] + idle * score * outcome,
        "state": inner["state"] + idle * score * unknown,
        "td": inner["td"],
    }


def needed_explained_variance(within: float, total: float, group: int) -> float:
    """P5: explained variance above which a critic's baseline beats a group of `G`.

    `1 - E[Var(R | s_0)] / Var(R) · G / (G - 1)`: it must explain more than what lies between start states.
    """
    return 1.0 - within / total * group / (group - 1)
