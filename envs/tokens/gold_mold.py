"""The Gold/Mold maze of Han, Chalmers and Izmailov, in tokens: fifteen turns, seen from close by."""

import functools
from collections import deque
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import drawing
from ..base import Reference, random_return, require, require_count, require_fraction
from .base import Transcript

SIZE, INNER = 100, 98
DIRECTIONS = "NESW"
OFFSETS = np.array([-SIZE, 1, SIZE, -1], np.int32)
"""Steps on the flat grid, of the directions; y grows to the south."""

KINDS = ("path", "mold", "gold")
PATH, MOLD, GOLD = range(3)
FIRST_MOVE = 1
FIRST_WIND = FIRST_MOVE + 4
FIRST_TILE = FIRST_WIND + 5
VOCABULARY = (
    "<pad>",
    *DIRECTIONS,
    "calm",
    *(f"wind:{d}" for d in DIRECTIONS),
    *(f"{d}:{kind}" for d in DIRECTIONS for kind in KINDS),
)
REPORT = 5
"""Tokens that the world writes a turn: the wind, and the four tiles around."""


class State(NamedTuple):
    """Where the episode is; tiles are numbered `100 y + x`.

    Attributes:
      mold: bool[10000], at the start.
      gold: bool[10000], at the start.
      listing: int32[4], order in which the directions are told.
      trail: int32[2 turns + 1], tiles that were entered, two places a turn; -1 where there was none.
      here: int32[], the agent's tile.
      golds: int32[], tiles of gold that were entered.
      molds: int32[], tiles of mold.
      tokens: int32[L].
      time: int32[], turns taken.
    """

    mold: jax.Array
    gold: jax.Array
    listing: jax.Array
    trail: jax.Array
    here: jax.Array
    golds: jax.Array
    molds: jax.Array
    tokens: jax.Array
    time: jax.Array


class GoldMold(Transcript):
    """Collect gold and keep off mold, seeing only the four tiles around; a tile that is left turns to mold.

    Isolates rewards of two kinds that come at once, under luck: a path must be chosen tile by tile, and the
    wind blows the agent one tile further.

    *Grid.* 100 x 100, border mold. From an interior of mold a random walk of 490 to 1470 steps makes path;
    random mold turns to path until a share of 10 % to 50 % is left (uniform); `floor(gold * molds)` path
    tiles, at least one, become gold. The start is the path tile first met by breadth-first search from the
    centre. A new grid each episode, so that nothing is held out.
    *Action.* One of the tokens N, E, S, W. *Turn.* Move; with probability `wind` a wind from a uniform
    direction pushes one tile further. Every tile that is entered counts, every tile that is left is mold.
    *Observation.* As in `Transcript`; a turn writes the choice, the wind (`calm`, or where it came from) and
    the four tiles, in an order that is drawn once per grid with `shuffle`. The prompt is the first report.
    *Reward.* Each turn -0.1, +20 for each gold and -10 for each mold that was entered. *End.* After `turns`.
    *Optimum.* Not known; `greedy`, which prefers gold to path to mold among the four tiles, earns 18.
    *Source.* arXiv 2605.30232, appendix J and its code, which moves and then pushes; its text replaces the
    move instead. Left out: the agent's own coordinates, which tell nothing about the grid.
    """

    def __init__(
        self,
        turns: int = 15,
        wind: float = 0.1,
        gold: float = 0.2,
        shuffle: bool = True,
        view: str = "tokens",
    ):
        """A maze of gold and mold.

        Args:
          turns: 1 to 20, so that the border is out of reach.
          wind: probability of a push a turn.
          gold: tiles of gold per tile of mold.
          shuffle: whether the order of the directions is drawn.
          view: `tokens`, or `one_hot` for networks that do not embed.
        """
        require_count("turns", turns, 1)
        require(turns <= 20, "turns", turns, "at most 20, so that the border is out of reach")
        require_fraction("wind", wind)
        require_fraction("gold", gold)
        require(isinstance(shuffle, bool), "shuffle", shuffle, "true or false")
        super().__init__(
            vocabulary=VOCABULARY,
            legal=range(FIRST_MOVE, FIRST_WIND),
            prompt_length=REPORT,
            answer_length=turns,
            stride=1 + REPORT,
            view=view,
        )
        self.turns, self.wind, self.share, self.shuffle = turns, wind, gold, shuffle

    @functools.cached_property
    def reference(self) -> Reference:
        """Random: measured, `random_return(GoldMold(), 10_000)` of `vfcompare.envs.base`, standard error 0.3.

        With other settings the mean of 1000 episodes, simulated when it is asked for; standard error 1.
        """
        standard = (self.turns, self.wind, self.share) == (15, 0.1, 0.2)
        return Reference(random=-81.2 if standard else random_return(self, 1000)[0])

    def initial(self, rng, params=None):
        """A new grid, and the first report."""
        del params
        grid_key, order_key = jax.random.split(rng)
        mold, gold = _grid(grid_key, self.share)
        listing = jnp.arange(4, dtype=jnp.int32)
        if self.shuffle:
            listing = jax.random.permutation(order_key, listing)
        here = jnp.argmin(jnp.where(mold | gold, SIZE * SIZE, _search_order())).astype(jnp.int32)
        trail = jnp.full(2 * self.turns + 1, -1, jnp.int32).at[0].set(here)
        zero = jnp.int32(0)
        tokens = jnp.zeros(self.length, jnp.int32)
        state = State(mold, gold, listing, trail, here, zero, zero, tokens, zero)
        return state._replace(tokens=self._told(state, jnp.int32(FIRST_WIND)))

    def transition(self, state, action, rng, params=None):
        """Move, then be pushed, then look around."""
        del params
        move = jnp.clip(jnp.asarray(action, jnp.int32) - FIRST_MOVE, 0, 3)
        draw = jax.random.uniform(rng)
        blown = draw < self.wind
        # What is left of the draw is uniform again.
        source = jnp.minimum((draw / jnp.maximum(self.wind, 1e-6) * 4).astype(jnp.int32), 3)
        index = self.prompt_length + self.stride * state.time
        chosen = FIRST_MOVE + move
        offsets = jnp.asarray(OFFSETS)
        state = state._replace(tokens=state.tokens.at[index].set(chosen))
        state = _enter(state, state.here + offsets[move], 2 * state.time + 1, jnp.bool_(True))
        state = _enter(state, state.here - offsets[source], 2 * state.time + 2, blown)
        state = state._replace(time=state.time + 1)
        wind = jnp.where(blown, FIRST_WIND + 1 + source, FIRST_WIND)
        return state._replace(tokens=self._told(state, wind))

    def reward(self, state, action, next_state, rng, params=None):
        """`20 gold - 10 mold - 0.1` of the turn: float32[]."""
        del action, rng, params
        golds = (next_state.golds - state.golds).astype(jnp.float32)
        molds = (next_state.molds - state.molds).astype(jnp.float32)
        return 20.0 * golds - 10.0 * molds - 0.1

    def terminal(self, state, rng, params=None):
        """After the last turn."""
        del rng, params
        return state.time >= self.turns

    def around(self, state) -> jax.Array:
        """Kinds of the four tiles around, in the order N, E, S, W: int32[4]."""
        return jax.vmap(lambda offset: _kind(state, state.here + offset))(jnp.asarray(OFFSETS))

    def greedy(self, state, key) -> jax.Array:
        """The action that prefers gold to path to mold, among equals at random: int32[]."""
        worth = jnp.array([1.0, 0.0, 2.0])[self.around(state)]
        return FIRST_MOVE + jnp.argmax(worth + 0.5 * jax.random.uniform(key, (4,))).astype(
            jnp.int32
        )

    def demonstration(self, state, key) -> jax.Array:
        """The tokens of an episode by `greedy`: int32[L]."""

        def step(state, key):
            act_key, turn_key = jax.random.split(key)
            return self.transition(state, self.greedy(state, act_key), turn_key), None

        return jax.lax.scan(step, state, jax.random.split(key, self.turns))[0].tokens

    def draw(self, state) -> np.ndarray:
        """The tiles near the start: mold, path and gold, where the agent was, and the agent (blue)."""
        scale, reach = 24, 8
        mold, gold = np.array(state.mold), np.array(state.gold)
        been = [int(tile) for tile in np.asarray(state.trail) if tile >= 0]
        mold[been], gold[been] = True, False
        centre = np.divmod(int(state.here), SIZE)
        image = drawing.canvas((2 * reach + 1) * scale, (2 * reach + 1) * scale, drawing.FLOOR)
        for row, column in np.ndindex(2 * reach + 1, 2 * reach + 1):
            tile = (centre[0] - reach + row) * SIZE + centre[1] - reach + column
            colour = drawing.GOLD if gold[tile] else drawing.GREY if mold[tile] else drawing.PAPER
            colour = drawing.SKY if tile in been else colour
            drawing.cell(image, row, column, scale, colour, inset=0.04, corner=0.1)
        middle = (reach + 0.5) * scale
        drawing.disk(image, (middle, middle), 0.34 * scale, drawing.BLUE)
        return drawing.finish(image)

    def _told(self, state, wind):
        """The tokens with a report at their end: int32[L]."""
        tiles = FIRST_TILE + 3 * jnp.arange(4, dtype=jnp.int32) + self.around(state)
        report = jnp.concatenate([wind[None], tiles[state.listing]])
        return jax.lax.dynamic_update_slice(state.tokens, report, (self.stride * state.time,))


def _kind(state, tile):
    """What a tile is that the agent is not on: int32[]."""
    left = (state.trail == tile).any()
    kind = jnp.where(state.mold[tile], MOLD, jnp.where(state.gold[tile], GOLD, PATH))
    return jnp.where(left, MOLD, kind).astype(jnp.int32)


def _enter(state, tile, index, really):
    """The agent on another tile, if `really`."""
    kind = _kind(state, tile)
    return state._replace(
        here=jnp.where(really, tile, state.here),
        trail=state.trail.at[index].set(jnp.where(really, tile, -1)),
        golds=state.golds + (really & (kind == GOLD)).astype(jnp.int32),
        molds=state.molds + (really & (kind == MOLD)).astype(jnp.int32),
    )


def _grid(key, share):
    """Where mold and gold are: bool[10000] each."""
    walk_key, number_key, fill_key, gold_key = jax.random.split(key, 4)
    y, x = np.divmod(np.arange(SIZE * SIZE), SIZE)
    inside = (x > 0) & (x <= INNER) & (y > 0) & (y <= INNER)
    mold = inside & ~_walked(walk_key)
    low, high = INNER**2 // 10 + 1, INNER**2 // 2 - 1
    drawn = jax.random.randint(number_key, (), low, high + 1, jnp.int32)
    count = mold.sum(dtype=jnp.int32)
    count = jnp.where(count > high, drawn, count)
    mold = _some(fill_key, mold, count)
    # A rounding of `share` must not cost a tile.
    golds = jnp.floor(share * count.astype(jnp.float32) + 1e-3).astype(jnp.int32)
    gold = _some(gold_key, inside & ~mold, jnp.maximum(golds, 1))
    return mold | ~inside, gold


def _some(key, among, number):
    """`number` of the tiles among some, uniformly drawn: bool[10000]."""
    score = jnp.where(among, jax.random.bits(key, among.shape) >> np.uint32(1), np.uint32(2**31))
    return among & (score <= jnp.sort(score)[number - 1])


def _walked(key):
    """Tiles of a random walk within the interior: bool[10000]."""
    start_key, length_key, step_key = jax.random.split(key, 3)
    longest = 15 * INNER
    length = jax.random.randint(length_key, (), 5 * INNER, longest + 1, jnp.int32)
    x, y = jax.random.randint(start_key, (2,), 1, INNER + 1, jnp.int32)

    def step(place, draw):
        x, y = place
        may = jnp.stack([y > 1, x < INNER, y < INNER, x > 1])
        count = jnp.cumsum(may.astype(jnp.int32))
        pick = (draw * count[-1].astype(jnp.float32)).astype(jnp.int32)
        move = jnp.argmax(count > pick)
        x = x + jnp.array([0, 1, 0, -1])[move]
        y = y + jnp.array([-1, 0, 1, 0])[move]
        return (x, y), SIZE * y + x

    _, tiles = jax.lax.scan(step, (x, y), jax.random.uniform(step_key, (longest,)))
    taken = jnp.arange(longest, dtype=jnp.int32) < length
    tiles = jnp.where(taken, tiles, SIZE * y + x)
    return jnp.zeros(SIZE * SIZE, bool).at[tiles].set(True).at[SIZE * y + x].set(True)


@functools.cache
def _search_order() -> np.ndarray:
    """When breadth-first search from the centre meets each tile, trying N, S, E, W: int32[10000]."""
    begin = SIZE // 2 * SIZE + SIZE // 2
    order, queue = {begin: 0}, deque([begin])
    while queue:
        tile = queue.popleft()
        y, x = divmod(tile, SIZE)
        for dx, dy in ((0, -1), (0, 1), (1, 0), (-1, 0)):
            there = (y + dy) * SIZE + x + dx
            if 0 <= x + dx < SIZE and 0 <= y + dy < SIZE and there not in order:
                order[there] = len(order)
                queue.append(there)
    return np.array([order[tile] for tile in range(SIZE * SIZE)], np.int32)
