"""Tasks that are tables, where everything can be computed exactly, and Gymnasium's toy-text tasks as such."""

import functools
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from vfcompare.errors import NotAllowed
from vfcompare.oracle.exact import Outcomes

from . import drawing
from .base import Reference, Task, require, require_count


class State(NamedTuple):
    """Where the episode is.

    Attributes:
      place: int32[], Gymnasium's number of the state.
      reward: float32[], what the transition into it paid; two transitions into one state may pay differently.
      ended: bool[], whether that transition ended the episode.
    """

    place: jax.Array
    reward: jax.Array
    ended: jax.Array


class Tables(Task):
    """A task that its tables say all about: dynamics, references and enumeration follow from them.

    Attributes (S states, A actions, K outcomes, padded with probability 0):
      probability: float64[S, A, K].
      next_state: int32[S, A, K].
      reward_table: float64[S, A, K].
      terminal_table: bool[S, A, K].
      initial_distribution: float64[S].
      legal: bool[S, A].
      has_mask: whether `state_info` tells what is legal.
    """

    contextual = False
    threshold: float | None = None

    def __init__(
        self,
        probability: np.ndarray,
        next_state: np.ndarray,
        reward: np.ndarray,
        terminal: np.ndarray,
        *,
        horizon: int,
        initial_distribution: np.ndarray,
        legal: np.ndarray | None = None,
    ):
        """From tables `[S, A, K]`.

        Args:
          probability: of each outcome.
          next_state: where it leads.
          reward: what it pays.
          terminal: whether it ends the episode.
          horizon: most steps.
          initial_distribution: of start states, `[S]`.
          legal: `[S, A]`, or None where every action is legal and nothing needs to be told.

        Raises:
          ValueError: for a row of `probability` that is none.
        """
        super().__init__()
        self.probability = np.asarray(probability, np.float64)
        _require_distributions(self.probability)
        self.next_state = np.asarray(next_state, np.int32)
        self.reward_table = np.asarray(reward, np.float64)
        self.terminal_table = np.asarray(terminal, bool)
        self.initial_distribution = np.asarray(initial_distribution, np.float64)
        self.horizon = horizon
        states, actions, _ = self.probability.shape
        self.has_mask = legal is not None
        self.legal = np.ones((states, actions), bool) if legal is None else legal
        self.action_space = Discrete(actions)
        self.observation_space = Box(0.0, 1.0, (states,), np.float32)

    @functools.cached_property
    def reference(self) -> Reference:
        """Exact, by finite-horizon dynamic programming in float64; random is uniform over legal actions.

        V_0 = 0,  V_k(s) = max_a or mean_a sum_i p_i (r_i + (1 - end_i) V_{k-1}(s_i)).

        A threshold that no policy reaches within the horizon is none.
        """
        optimal = random = np.zeros(len(self.probability))
        for _ in range(self.horizon):
            optimal = np.where(self.legal, self._lookahead(optimal), -np.inf).max(1)
            random = (self._lookahead(random) * self.legal).sum(1) / self.legal.sum(1)
        start = self.initial_distribution
        best, threshold = float(start @ optimal), self.threshold
        reached = threshold is not None and threshold <= best
        return Reference(float(start @ random), best, threshold if reached else None)

    def initial(self, rng, params=None):
        """A start state drawn from `initial_distribution`."""
        del params
        starts = np.flatnonzero(self.initial_distribution)
        place = jnp.int32(starts[0])
        if len(starts) > 1:
            limits = jnp.asarray(self.initial_distribution[starts].cumsum()[:-1], jnp.float32)
            index = (jax.random.uniform(rng) >= limits).astype(jnp.int32).sum()
            place = jnp.asarray(starts, jnp.int32)[index]
        return State(place, jnp.float32(0.0), jnp.bool_(False))

    def transition(self, state, action, rng, params=None):
        """One outcome of the row of the table."""
        del params
        outcome = jnp.int32(0)
        if self.probability.shape[-1] > 1:
            limits = jnp.asarray(self.probability.cumsum(-1)[..., :-1], jnp.float32)
            draw = jax.random.uniform(rng)
            outcome = (draw >= limits[state.place, action]).astype(jnp.int32).sum()
        cell = (state.place, action, outcome)
        return State(
            jnp.asarray(self.next_state)[cell],
            jnp.asarray(self.reward_table, jnp.float32)[cell],
            jnp.asarray(self.terminal_table)[cell],
        )

    def observation(self, state, rng, params=None):
        """The state as one-hot: float32[S]."""
        del rng, params
        return one_hot(state.place, self.places)

    def reward(self, state, action, next_state, rng, params=None):
        """What the transition paid: float32[]."""
        del state, action, rng, params
        return next_state.reward

    def terminal(self, state, rng, params=None):
        """Whether the transition ended the episode."""
        del rng, params
        return state.ended

    def state_info(self, state, params=None):
        """`{"action_mask": bool[A]}` where not every action is legal."""
        del params
        return {"action_mask": jnp.asarray(self.legal)[state.place]} if self.has_mask else {}

    @property
    def places(self) -> int:
        """States of the table."""
        return len(self.probability)

    @property
    def spread(self) -> int:
        """Outcomes of an action."""
        return self.probability.shape[-1]

    def place(self, state) -> jax.Array:
        """The number of the state: int32[]."""
        return state.place

    def states(self, start, time) -> State:
        """Every state of the table."""
        del start, time
        nothing = jnp.zeros(self.places)
        return State(jnp.arange(self.places, dtype=jnp.int32), nothing, nothing > 0)

    def outcomes(self, start, time) -> Outcomes:
        """The table."""
        del start, time
        return Outcomes(
            jnp.asarray(self.probability),
            jnp.asarray(self.next_state),
            jnp.asarray(self.reward_table),
            jnp.asarray(self.terminal_table, float),
        )

    def _lookahead(self, value: np.ndarray) -> np.ndarray:
        """Expected return of each action given values afterwards: float64[S, A]."""
        after = np.where(self.terminal_table, 0.0, value[self.next_state])
        return (self.probability * (self.reward_table + after)).sum(-1)


class Tabular(Tables):
    """FrozenLake, CliffWalking or Taxi, as Gymnasium defines them.

    Isolates learning with a known truth: values, advantages and gradients follow from the tables by dynamic
    programming.

    *Action.* As in the original; where Gymnasium has a legality mask (Taxi), `state_info` tells it.
    *Observation.* float32[S], the state as one-hot. *Reward, end.* From the table; truncated at `horizon`,
    which the task does not know.
    *Optimum.* `reference`, by finite-horizon dynamic programming; FrozenLake 0.744190 (4x4, 100 steps) and
    0.913220 (8x8, 200 steps). *Source.* `gymnasium.make(id).unwrapped.P`, Gymnasium 1.4.
    """

    def __init__(self, id: str = "FrozenLake-v1", horizon: int | None = None, **options):
        """Build from the Gymnasium id.

        Args:
          id: a Gymnasium environment with a table `P`.
          horizon: most steps; None takes Gymnasium's own limit.
          **options: passed to `gymnasium.make`, such as `success_rate`.

        Raises:
          ValueError: where Gymnasium has no such task, or no table of it.
        """
        if horizon is not None:
            require_count("horizon", horizon, 1)
        try:
            origin = gymnasium.make(id, **options)
        except gymnasium.error.Error as error:
            raise NotAllowed(
                f"id={id!r} is not allowed; allowed: a task with a table P, such as FrozenLake-v1 ({error})"
            ) from error
        base: Any = origin.unwrapped
        spec = origin.spec
        require(hasattr(base, "P"), "id", id, "a task with a table P, such as FrozenLake-v1")
        fickle = getattr(base, "fickle_passenger", False)
        require(not fickle, "fickle_passenger", fickle, "false: the table P does not contain it")
        steps = horizon or (spec.max_episode_steps if spec else None) or 0
        require(steps >= 1, "horizon", horizon, f"a whole number from 1, as {id} has no limit")
        masks = None
        if hasattr(base, "action_mask"):
            masks = np.array([base.action_mask(s) for s in range(len(base.P))], bool)
        super().__init__(
            *_tables(base.P),
            horizon=steps,
            initial_distribution=base.initial_state_distrib,
            legal=masks,
        )
        self.threshold = spec.reward_threshold if spec else None
        self._board = _board(base)
        origin.close()

    def draw(self, state) -> np.ndarray:
        """The board with its agent."""
        return self._board(int(state.place))


def one_hot(index: jax.Array, number: int) -> jax.Array:
    """Zeros, and a one at the index: float32[number]."""
    return (jnp.arange(number, dtype=jnp.int32) == index).astype(jnp.float32)


def _require_distributions(probability: np.ndarray) -> None:
    """Each `[..., K]` is one: not negative, and with a sum of 1."""
    fits = (probability >= 0).all(-1) & (np.abs(probability.sum(-1) - 1.0) < 1e-6)
    bad = probability[~fits][:1].tolist()
    require(not bad, "probability", bad, "in each row numbers from 0 that sum to 1")


def _tables(table: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Gymnasium's `P[s][a] = [(probability, next, reward, end), ...]` as four arrays `[S, A, K]`."""
    most = max(len(outcomes) for row in table.values() for outcomes in row.values())
    shape = (len(table), len(table[0]), most)
    probability, reward = np.zeros(shape), np.zeros(shape)
    following, end = np.zeros(shape, np.int32), np.zeros(shape, bool)
    for s, row in table.items():
        for a, outcomes in row.items():
            for k, outcome in enumerate(outcomes):
                cell = (s, a, k)
                probability[cell], following[cell], reward[cell], end[cell] = outcome
    return probability, following, reward, end


def _board(base):
    """A function from the number of a state to its picture: uint8[height, width, 3]."""
    if hasattr(base, "decode"):
        stops, rows = tuple(base.locs), [bytes(row).decode() for row in base.desc]
        return lambda place: _draw_taxi(base.decode(place), stops, rows)
    if hasattr(base, "_cliff"):
        letters = np.where(base._cliff, "H", "F")
        letters[3, 0], letters[3, -1] = "S", "G"
    else:
        letters = base.desc.astype(str)
    return functools.partial(_draw_grid, letters)


def _draw_grid(letters: np.ndarray, place: int) -> np.ndarray:
    """Ice (F), start (S), holes or cliff (H), goal (G) and the agent."""
    rows, columns = letters.shape
    scale = 48
    colours = {"F": drawing.SKY, "S": drawing.FLOOR, "H": drawing.INK, "G": drawing.GREEN}
    image = drawing.canvas(rows * scale, columns * scale)
    for (row, column), letter in np.ndenumerate(letters):
        drawing.cell(image, row, column, scale, colours[letter], inset=0.03, corner=0.1)
    row, column = divmod(place, columns)
    centre = ((column + 0.5) * scale, (row + 0.5) * scale)
    drawing.disk(image, centre, 0.3 * scale, drawing.BLUE)
    return drawing.finish(image)


def _draw_taxi(decoded, stops, rows) -> np.ndarray:
    """Walls, the four stops, the taxi, the passenger (dot) and the destination (ring)."""
    row, column, passenger, destination = decoded
    scale = 64
    image = drawing.canvas(5 * scale, 5 * scale, drawing.FLOOR)
    colours = (drawing.RED, drawing.GREEN, drawing.GOLD, drawing.SKY)
    for (r, c), colour in zip(stops, colours, strict=True):
        drawing.cell(image, r, c, scale, colour, inset=0.06, corner=0.1)
    for r in range(5):
        for c in range(1, 5):
            if rows[r + 1][2 * c] == "|":
                top, bottom = (c * scale, r * scale), (c * scale, (r + 1) * scale)
                drawing.line(image, top, bottom, 6, drawing.INK)

    def middle(r, c):
        return ((c + 0.5) * scale, (r + 0.5) * scale)

    drawing.disk(image, middle(*stops[destination]), 0.34 * scale, drawing.INK)
    drawing.disk(image, middle(*stops[destination]), 0.27 * scale, colours[destination])
    drawing.box(image, middle(row, column), (0.6 * scale, 0.38 * scale), drawing.BLUE, corner=6)
    seat = (row, column) if passenger == 4 else stops[passenger]
    drawing.disk(image, middle(*seat), 0.11 * scale, drawing.PAPER)
    drawing.disk(image, middle(*seat), 0.08 * scale, drawing.INK)
    return drawing.finish(image)
