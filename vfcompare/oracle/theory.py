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

    return {
        "none": baseline(0.0),
        "constant": baseline(start * (1.0 - q) / q),
        "start": baseline(start),
        "state": lock_gae_variance(q, length, 1.0),
        "td": lock_gae_variance(q, length, 0.0),
    }


def lock_gae_variance(q: float, length: int, lambda_: float) -> float:
    """P3: the same with `Σ_k λ^k δ_{t+k}` of exact values.

    What an episode that is right so far learns at step j, `δ_j = V_{j+1} - V_j` or `-V_j`, has mean zero and
    variance `q (1 - q) V_{j+1}²`, and is uncorrelated with what it learns later.
    """
    total, later, mean = 0.0, 0.0, (1.0 - q) * q**length
    for time in reversed(range(length)):
        now, after = q ** (length - time), q ** (length - time - 1)
        right = q * (1.0 - q) ** 2 * ((after - now) ** 2 + later)
        wrong = (1.0 - q) * q**2 * now**2
        total += q**time * (right + wrong) - mean**2
        later = lambda_**2 * (q * (1.0 - q) * after**2 + q * later)
    return total


def lock_group_variance(q: float, length: int, group: int) -> float:
    """P3: the same with the mean of the other `G - 1` rollouts as the baseline, times `G` for a group's mean.

    To `start` the noise of that mean adds `E s² Var(R) / (G - 1)`, and each pair of rollouts, which are in
    each other's baselines, a covariance of `(E s R / (G - 1))²`.
    """
    start = q**length
    mean = (1.0 - q) * start
    noise = q * (1.0 - q) * start * (1.0 - start)
    return lock_variance(q, length)["start"] + length * (noise + mean**2) / (group - 1)


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


def group_variance(group: int, between: float, known: dict[int, float]) -> float:
    """P4: variance of a leave-one-out gradient times its episodes, `G c + a + b / (G - 1)`.

    The baseline makes it a U-statistic of order two; what lies between start states, `c = E|∇J(s_0) - ∇J|²`,
    is averaged over `N / G` of them only (arXiv:2603.01162).

    Args:
      group: `G`.
      between: `c`.
      known: the variance at two other group sizes, which settle `a` and `b`.
    """
    (first, low), (second, high) = ((g, v - g * between) for g, v in sorted(known.items())[:2])
    slope = (low - high) / (1.0 / (first - 1) - 1.0 / (second - 1))
    return group * between + low + slope * (1.0 / (group - 1) - 1.0 / (first - 1))


def residual_variance(success: float, noise: float) -> float:
    """P5: variance under the baseline `V(s_0) + τ ε`, relative to `V(s_0)`: 1 - explained variance.

    `1 + τ² / Var(R)`, if score and return are uncorrelated. A group of `G` has `G / (G - 1)` by this rule.
    """
    return 1.0 + noise**2 / (success * (1.0 - success))


def noisy_variance(kind: str, q: float, length: int, noise: float) -> float:
    """P6: variance on the all-or-nothing chain under `V + τ ε`, relative to that under V.

    Independent errors add `τ² E|∇ log π(episode)|²` to a baseline. At λ = 0 each value is read twice, but for
    that of the end, which is known: `2 - 1/T` times as much.

    Args:
      kind: `start`, `state` or `td`.
      q: probability that a step is right.
      length: `T`.
      noise: `τ`.
    """
    reads = 2.0 - 1.0 / length if kind == "td" else 1.0
    added = noise**2 * reads * length * q * (1.0 - q)
    clean = lock_variance(q, length)[kind]
    return 1.0 + added / clean if clean > 0 else np.inf
