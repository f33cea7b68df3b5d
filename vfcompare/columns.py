"""Names of columns that one part writes and another reads, for those that must do without JAX."""

LOSSES = ("policy_loss", "critic_loss", "policy_grad_norm", "critic_grad_norm")
"""Metrics that must stay finite; where they are not, a seed has diverged."""

ADVANTAGE_EDGES = (-2.0, -1.0, -0.5, -0.1, 0.1, 0.5, 1.0, 2.0)
"""Edges of the histogram of advantages, in units of their root mean square."""

BINS = 4
"""Parts into which the lab cuts time-to-go."""

LAB = (
    *("gradient_bias", "gradient_variance", "gradient_snr", "gradient_cosine"),
    *("episodes_to_cosine", "gradient_norm", "gradient_scale"),
    *("gradient_between", "survival_gradient"),
    *("advantage_bias", "advantage_variance", "advantage_mse", "signal_share"),
    *("score_square", "score_return_correlation", "lab_return", "return_variance"),
    *("value_rmse", "value_bias", "value_explained", "value_slope", "rank_accuracy"),
    *(f"value_rmse_to_go_{part + 1}_of_{BINS}" for part in range(BINS)),
)
"""Columns of the evaluation that the lab writes, see `vfcompare.oracle.diagnostics`."""

CURVE = (
    *("seed", "point", "update", "env_steps", "episodes"),
    *("return_sampled", "return_greedy", "return_split"),
)
"""Columns of the evaluation that a report reads of learning curves, see `vfcompare.evaluation`."""
