"""Shared data: what an episode is, and what a policy, a collector and a learner are.

Shapes, once for the whole project: `B` prompts (start states), `G` rollouts of each prompt, `T` time
steps. Fields of a rollout are `[B, G, T]`; observations, values and states are `[B, G, T + 1]`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import gymnasium
import jax
from flax import struct

Array = jax.Array
Key = jax.Array
Params = Any
Carry = Any
Metrics = dict[str, Array]


class Env(Protocol):
    """A `gymnasium.experimental.functional.FuncEnv` that says how long an episode may last.

    What is asked behind `terminal` has defaults in `vfcompare.envs.base.Task`.
    """

    @property
    def observation_space(self) -> gymnasium.Space:
        """Of one observation."""

    @property
    def action_space(self) -> gymnasium.Space:
        """Of one action."""

    @property
    def horizon(self) -> int:
        """Most steps of an episode; whoever collects truncates there."""

    def initial(self, rng: Key, params: Any = None) -> Any:
        """A start state."""

    def transition(self, state: Any, action: Array, rng: Key, params: Any = None) -> Any:
        """The next state."""

    def observation(self, state: Any, rng: Key, params: Any = None) -> Array:
        """What the agent sees of a state."""

    def reward(
        self, state: Any, action: Array, next_state: Any, rng: Key, params: Any = None
    ) -> Array:
        """What a transition pays."""

    def terminal(self, state: Any, rng: Key, params: Any = None) -> Array:
        """Whether the task itself ends in a state."""

    def state_info(self, state: Any, params: Any = None) -> dict[str, Any]:
        """`{"action_mask": bool[A]}` where not every action is legal, else nothing."""

    def held_out(self) -> "Env":
        """The task as it is evaluated: itself, where no start state is kept back from training."""

    @property
    def reference(self) -> Any:
        """Returns to compare with, see `vfcompare.envs.base.Reference`."""

    @property
    def time_aware(self) -> bool:
        """Whether observations show the time that is left."""

    @property
    def shortest(self) -> int:
        """Fewest steps after which an episode may end by itself."""

    @property
    def passes(self) -> float | None:
        """The return from which an episode counts as passed, where it is right or wrong, else None."""

    @property
    def mute(self) -> int:
        """First steps of an episode that no reward teaches."""

    @property
    def report(self) -> Callable[[Any], Array] | None:
        """`(right) -> action`, what the first step says of the outcome where it is a report, else None."""

    @property
    def layout(self) -> "Layout | None":
        """How an observation in tokens is written, else None."""


def members(protocol: type) -> list[str]:
    """Names that a protocol asks for beyond those that it inherits, in their order."""
    return [name for name in vars(protocol) if not name.startswith("_")]


class Rollout(struct.PyTreeNode):
    """One collected batch of experience.

    Both collectors share this layout, so that every return and advantage is one function:

    * *Episodes* start at row 0, end once, and are padded with `mask == 0`.
    * *Fragments* hold pieces of several episodes. After `terminated` the next row begins the next
      episode (its value never matters, the discount is zero). After `truncated` comes one boundary row
      with `mask == 0` that holds the final observation, so that `value[t + 1]` is the bootstrap value of
      row `t` everywhere, also where an episode was cut.

    Attributes:
      obs: `[B, G, T + 1, ...]`, what the policy saw; the last row may be bootstrapped.
      action: `[B, G, T, ...]`.
      log_prob: `[B, G, T]` of `action` under the behaviour policy.
      reward: `[B, G, T]`, zero where `mask` is zero.
      terminated: `[B, G, T]`, one where the task itself ended after this step.
      truncated: `[B, G, T]`, one where the clock ended the episode after this step.
      mask: `[B, G, T]`, one for steps that were taken.
      first: `[B, G, T]`, one where an episode begins: a recurrent policy forgets there.
      legal: `[B, G, T, A]` legality of each discrete action, or None.
      carry: `[B, G, ...]`, the policy's carry before row 0.
      state: `[B, G, T + 1, ...]` environment states, or None unless a part asked for them.
    """

    obs: Array
    action: Array
    log_prob: Array
    reward: Array
    terminated: Array
    truncated: Array
    mask: Array
    first: Array
    legal: Array | None = None
    carry: Carry = ()
    state: Any = None

    @property
    def discount(self) -> Array:
        """`[B, G, T]`, the environment's continuation: zero where the episode terminated."""
        return 1.0 - self.terminated

    @property
    def trace(self) -> Array:
        """`[B, G, T]`, one where the next row continues the same episode."""
        return self.mask * (1.0 - self.terminated) * (1.0 - self.truncated)

    @property
    def steps(self) -> "Steps":
        """What the policy acted on, without the bootstrap row: leaves are `[B, G, T, ...]`."""
        return Steps(self.obs[:, :, :-1], self.action, self.first, self.legal, self.carry)


class Steps(struct.PyTreeNode):
    """What a policy is evaluated on: any leading shape for feed-forward ones, `[..., T]` for recurrent ones.

    Attributes:
      obs: `[..., obs]`.
      action: `[..., action]`.
      first: `[...]`.
      legal: `[..., A]` or None.
      carry: the policy's carry before the first row; unused by feed-forward policies.
    """

    obs: Array
    action: Array
    first: Array
    legal: Array | None = None
    carry: Carry = ()


class Lesson(struct.PyTreeNode):
    """What a critic is to learn of each step; fields are shaped like `Batch.mask`.

    Attributes:
      target: what its value should be, in the critic's own unit.
      old: its value before the fit, in the same unit.
      episode: number of the step's episode in the batch.
    """

    target: Array
    old: Array
    episode: Array


class Batch(struct.PyTreeNode):
    """What the networks learn from, in `N` rows, see `vfcompare.batching`.

    Fields are `[N]` where a row is a step, `[N, T]` where it is an episode, `[N, G, T]` where it is a group.

    Attributes:
      steps: what the policy acted on.
      valid: `[N]`, one for rows of which any step was taken.
      mask: one for steps that were taken and that reward teaches, see `Env.mute`.
      log_prob: of the action under the behaviour policy.
      advantage: of the action.
      weight: what a step counts in the loss of each network, by its name; zero where none was taken.
      reference: log-probability of the action under the initial policy, or None where nobody asks.
      lesson: the critic's, or None where there is none.
    """

    steps: Steps
    valid: Array
    mask: Array
    log_prob: Array
    advantage: Array
    weight: dict[str, Array]
    reference: Array | None = None
    lesson: Lesson | None = None


class Layout(NamedTuple):
    """How an episode of a task in tokens is written: `P` tokens of prompt, and `stride` more at each step.

    Attributes:
      vocabulary: number of tokens; token 0 stands where nothing is written.
      prompt: `P`.
      stride: tokens that a step writes.
    """

    vocabulary: int
    prompt: int
    stride: int


class Spec(NamedTuple):
    """The facts of a task that parts are completed with.

    Attributes:
      observation_space: of one observation.
      action_space: of one action.
      shape: `(B, G, T)` of a rollout.
      whole_episodes: whether rollouts are whole episodes, of which many rows are padding, or fragments.
      features: `(policy params, obs [..., obs]) -> [..., F]`, the policy's last hidden layer, or None where
        there is none that depends on the observation alone.
      sequential: whether `features` reads whole episodes, `[..., T, obs]`.
      recurrent: whether the policy has a memory that no state of the environment brings back.
      shared: whether the episodes of a group begin in the same state.
      layout: of tasks in tokens, else None.
    """

    observation_space: gymnasium.Space
    action_space: gymnasium.Space
    shape: tuple[int, int, int]
    whole_episodes: bool
    features: Callable[[Params, Array], Array] | None = None
    sequential: bool = False
    recurrent: bool = False
    shared: bool = False
    layout: Layout | None = None


class Policy(NamedTuple):
    """A distribution over actions, as pure functions of its parameters.

    Randomness comes in as `noise`, independent uniforms in (0, 1) of shape `noise_shape`, drawn in bulk by
    the collector: two agents that share the action stream and the parameters take the same actions.

    Attributes:
      init: `(key, obs) -> params`.
      carry: the carry at the start of an episode; `()` for a feed-forward policy.
      noise_shape: shape of the uniforms that one action consumes.
      act: `(params, carry, obs, legal, noise) -> (carry, action, log_prob)`, for one observation.
      mode: `(params, carry, obs, legal) -> (carry, action)`, the greedy action.
      evaluate: `(params, steps) -> (log_prob, entropy)`, both of the steps' leading shape.
      log_probs: `(params, obs [..., obs], legal) -> [..., A]`, of all actions, where these can be listed and
        observations tell all that the policy knows; else None.
      features: see `Spec`.
      begin: `(params, obs) -> carry`, where a policy has to read what an episode begins with, else None.
    """

    init: Callable[[Key, Array], Params]
    carry: Carry
    noise_shape: tuple[int, ...]
    act: Callable[..., tuple[Carry, Array, Array]]
    mode: Callable[..., tuple[Carry, Array]]
    evaluate: Callable[[Params, Steps], tuple[Array, Array]]
    log_probs: Callable[[Params, Array, Array | None], Array] | None = None
    features: Callable[[Params, Array], Array] | None = None
    begin: Callable[[Params, Array], Carry] | None = None

    @property
    def recurrent(self) -> bool:
        """Whether it reads whole episodes rather than steps."""
        return self.begin is not None or len(jax.tree.leaves(self.carry)) > 0


Simulate = Callable[..., Rollout]
"""One more episode of the present policy from each of `N` states: `(states, key) -> Rollout [N, 1, T]`.

`time [N]` is how many steps of the horizon are used up, and `alive [N]` whether there is an episode to
simulate at all; where they are not given, none and everywhere. With `greedy=True` the policy takes its most
probable actions.
"""


class Charge(NamedTuple):
    """What is taken from the budget.

    Attributes:
      steps: environment steps.
      episodes: that ended in them.
    """

    steps: Array
    episodes: Array


class Collected(NamedTuple):
    """What a collector gathered.

    Attributes:
      state: the collector's next one.
      rollout: what an update learns from.
      charge: of all that was taken, also of what was thrown away.
      metrics: what to log.
    """

    state: Any
    rollout: Rollout
    charge: Charge
    metrics: Metrics


class Collector(NamedTuple):
    """How experience is gathered.

    Attributes:
      init: `(key, policy) -> state`.
      collect: `(state, policy, params, key, *, keep_state) -> Collected`.
      simulate: `(states, policy, params, key, *, time=None, alive=None, keep_state=False) -> rollout`, see
        `Simulate`.
      shape: `(B, G, T)`.
      whole_episodes: whether rollouts are whole episodes, of which many rows are padding, or fragments.
      shared: whether the episodes of a group begin in the same state.
    """

    init: Callable[[Key, Policy], Any]
    collect: Callable[..., Collected]
    simulate: Callable[..., Rollout]
    shape: tuple[int, int, int]
    whole_episodes: bool
    shared: bool = False


Networks = dict[str, Params]
"""Parameters by network: `policy`, and `critic` where there is one."""


class Access(NamedTuple):
    """What an estimator may ask beyond the rollout.

    Attributes:
      simulate: more episodes, charged to the budget, see `Simulate`.
      exact_value: `(rollout, sharpness) -> [B, G, T + 1]`, that of each visited state under the present
        policy with its logits times `sharpness`, see `vfcompare.oracle.exact`. A privilege that costs
        nothing.
      log_prob: `(rollout) -> [B, G, T]`, of its actions under the present policy.
      squared_score: `(rollout) -> [B, G, T]`, squared length of the gradient of `log π(a|s)` by the logits.
      progress: share of the budget that is used up.
      moved: mean `|log π_after - log π_before|` of the last update on a sample of the steps it learned from,
        "before" being the policy that took them.
    """

    simulate: Simulate
    exact_value: Callable[[Rollout, float], Array]
    log_prob: Callable[[Rollout], Array]
    squared_score: Callable[[Rollout], Array]
    progress: Array
    moved: Array


class Prior(NamedTuple):
    """What a policy is before it is rewarded.

    Attributes:
      params: its parameters, or None where only shapes matter.
      inherited: whether a critic's body begins as the policy's.
    """

    params: Params | None
    inherited: bool


class Judge(NamedTuple):
    """What pays in place of a verifier.

    Attributes:
      score: `(tokens [L]) -> float32[]`, of a whole episode.
    """

    score: Callable[[Array], Array]


class Work(NamedTuple):
    """What an agent's networks compute, in FLOPs of their matrix products, see `vfcompare.flops`.

    Padding is not counted, nor are evaluations, diagnostics and a learned judge.

    Attributes:
      act: of one environment step.
      begin: of reading what an episode begins with.
      learn: of one collected step, over all epochs: values, the initial policy where it is asked, and the
        losses forward and backward.
    """

    act: float
    begin: float
    learn: float

    def total(self, env_steps: float, episodes: float, collected_steps: float) -> float:
        """FLOPs of a training."""
        return self.act * env_steps + self.begin * episodes + self.learn * collected_steps

    def told(self) -> str:
        """In words."""
        return ", ".join(f"{name} {value:,.0f}" for name, value in self._asdict().items() if value)


class LearnerState(Protocol):
    """What training may ask of an agent's state; everything else in it is the agent's own.

    Attributes:
      params: of its networks, `policy` among them.
      collector: where its collector stands.
      memory: what its estimator remembers.
    """

    params: Networks
    collector: Any
    memory: Any


class Update(NamedTuple):
    """What an update made.

    Attributes:
      state: the learner's next one.
      env_steps: that it took from the budget, simulated and thrown away ones included.
      episodes: that ended in them, but for simulated ones.
      finite: whether all losses and gradients were; training stops where they were not.
      metrics: what to log.
    """

    state: Any
    env_steps: Array
    episodes: Array
    finite: Array
    metrics: Metrics


class Learner(NamedTuple):
    """An agent as pure functions.

    What needs the policy only takes its parameters only, so that matched agents share these programs.

    Attributes:
      init: `(key) -> state`.
      update: `(state, key, progress) -> Update`: collect, estimate, improve; `progress` is the share of the
        budget that is used up, in [0, 1).
      rollout: `(policy params, collector state, key) -> Rollout`, what this policy collects in an update with
        this key, with environment states.
      evaluate: `(policy params, key) -> metrics`, on a stream of its own; its steps are not charged.
      even_cost: whether every update costs the same, so that seeds may go side by side without waiting.
      privileged: whether the agent asks for exact values.
      examine: `(state, key, progress) -> metrics`, the estimates held against the truth, or None; see
        `vfcompare.oracle.diagnostics`.
      maps: `(state, key) -> arrays`, truth and values over the squares of a maze, or None; see
        `vfcompare.oracle.maps`.
      work: `() -> Work`, or None where it is not known.
    """

    init: Callable[[Key], Any]
    update: Callable[[Any, Key, Array], Update]
    rollout: Callable[[Params, Any, Key], Rollout]
    evaluate: Callable[[Params, Key], Metrics]
    even_cost: bool
    privileged: bool = False
    examine: Callable[[Any, Key, Array], Metrics] | None = None
    maps: Callable[[Any, Key], dict[str, Array]] | None = None
    work: Callable[[], Work] | None = None
