"""Random decision problems with knobs for everything, where everything can be computed exactly."""

import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box

from . import drawing
from .base import require, require_count, require_fraction
from .tabular import Tables, one_hot
from .wrappers import TimeAware


class Garnet(TimeAware):
    """A random graph of states: an action leads to one of a few others, and entering some of them pays.

    Isolates whatever is turned: chance, sparsity, branching, horizon or an irrelevant part of the state,
    each alone. Every knob has draws of its own, so that turning one leaves the rest of an instance as it was.

    *Instance.* For each state and action, `branching` distinct states k = 1..b are drawn, with weights w from
    the spacings of b - 1 uniform cuts of the unit interval. The action leads to k with probability

        p_k = (1 - noise) [k = 1] + noise w_k,

    so that `noise=0` is deterministic and `noise=1` the Garnet of the literature. Of the `states` states
    `round((1 - sparsity) states)` pay, at least one; what is uniform in (0, 1].
    *Distractor.* A second factor of the state with `distractors` values, uniform and new at each step: it
    multiplies the number of states and changes nothing. 0 means none.
    *Action.* One of `actions`. *Observation.* float32[states + distractors + 1] in 0 to 1: the state as
    one-hot, the distractor as one-hot, the time left.
    *Reward.* On entering (or staying in) a paying state. *End.* After `horizon` steps, which the task knows:
    nothing else ends it, and a time limit that cannot be seen would be noise.
    *Optimum.* `reference`, by finite-horizon dynamic programming. *Source.* Archibald, McKinnon and Thomas
    (1995), "On the generation of Markov decision processes"; Bhatnagar et al. (2009), "Natural actor-critic
    algorithms", with normal rewards of transitions where ours belong to states.
    """

    def __init__(
        self,
        states: int = 20,
        actions: int = 4,
        branching: int = 3,
        horizon: int = 20,
        sparsity: float = 0.9,
        noise: float = 0.3,
        distractors: int = 0,
        instance: int = 0,
    ):
        """A garnet.

        Args:
          states: without the distractor.
          actions: to choose from.
          branching: states that an action may lead to.
          horizon: steps of an episode.
          sparsity: share of the states whose entering pays nothing.
          noise: share of chance in where an action leads.
          distractors: values of the irrelevant factor.
          instance: seed of the graph, its weights and its rewards.
        """
        super().__init__(
            Timeless(states, actions, branching, horizon, sparsity, noise, distractors, instance)
        )


class Timeless(Tables):
    """A `Garnet` that does not know its horizon: the tables, what is seen of a state, and the picture.

    Place `state + states * distractor`; every episode begins in place 0.

    Attributes:
      prize: float64[states], what entering pays.
    """

    def __init__(
        self,
        states: int,
        actions: int,
        branching: int,
        horizon: int,
        sparsity: float,
        noise: float,
        distractors: int,
        instance: int,
    ):
        require_count("states", states, 2)
        require_count("actions", actions, 2)
        require_count("branching", branching, 1)
        require(branching <= states, "branching", branching, f"at most the {states} states")
        require_count("horizon", horizon, 1)
        require_fraction("sparsity", sparsity)
        require_fraction("noise", noise)
        require_count("distractors", distractors, 0)
        require_count("instance", instance, 0)
        graph, weights, rewards = np.random.default_rng(instance).spawn(3)
        following = _targets(graph, states, actions)[..., :branching]
        chance = _spacings(weights, (states, actions, branching))
        probability = (1.0 - noise) * np.eye(branching)[0] + noise * chance
        self.prize = _prizes(rewards, states, sparsity)
        if noise == 0:
            following, probability = following[..., :1], probability[..., :1]
        following, probability = _distracted(following, probability, max(distractors, 1))
        super().__init__(
            probability,
            following,
            self.prize[following % states],
            np.zeros(following.shape),
            horizon=horizon,
            initial_distribution=np.eye(len(following))[0],
        )
        self.factors = (states, distractors)
        self.observation_space = Box(0.0, 1.0, (states + distractors,), np.float32)

    def observation(self, state, rng, params=None):
        """State and distractor as one-hot: float32[states + distractors]."""
        del rng, params
        states, distractors = self.factors
        shown = one_hot(state.place // states, distractors)
        return jnp.concatenate([one_hot(state.place % states, states), shown])

    def draw(self, state) -> np.ndarray:
        """States on a ring, the paying ones gold, the present one filled, strokes to where it may lead.

        The distractor is the hand of the clock in the middle.
        """
        states, distractors = self.factors
        size, here = 400, int(state.place) % states
        angle = 2 * np.pi * np.arange(states) / states - np.pi / 2
        ring = size / 2 + 0.4 * size * np.stack([np.cos(angle), np.sin(angle)], -1)
        points = [(float(x), float(y)) for x, y in ring]
        radius = min(0.05 * size, 0.4 * 0.8 * size * np.pi / states)
        image = drawing.canvas(size, size)
        for there in np.unique(self.next_state[int(state.place)] % states):
            drawing.line(image, points[here], points[there], 2, drawing.GREY)
        for number, point in enumerate(points):
            colour = drawing.GOLD if self.prize[number] > 0 else drawing.GREY
            drawing.disk(image, point, radius, colour)
            inside = drawing.BLUE if number == here else drawing.PAPER
            drawing.disk(image, point, 0.7 * radius, inside)
        if distractors:
            turn = 2 * np.pi * (int(state.place) // states) / distractors
            middle = (size / 2, size / 2)
            tip = (middle[0] + 30 * float(np.sin(turn)), middle[1] - 30 * float(np.cos(turn)))
            drawing.line(image, middle, tip, 6, drawing.INK)
        return drawing.finish(image)


def _targets(generator: np.random.Generator, states: int, actions: int) -> np.ndarray:
    """All states in random order for each state and action: int[states, actions, states]."""
    order = np.broadcast_to(np.arange(states), (states, actions, states))
    return generator.permuted(order, axis=-1)


def _spacings(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Lengths of the pieces of the unit interval between uniform cuts: float64[shape]."""
    cuts = np.sort(generator.random((*shape[:-1], shape[-1] - 1)), -1)
    return np.diff(cuts, axis=-1, prepend=0.0, append=1.0)


def _prizes(generator: np.random.Generator, states: int, sparsity: float) -> np.ndarray:
    """What entering each state pays: float64[states]; less sparsity adds states to those that pay."""
    rank = generator.permutation(states)
    prize = 1.0 - generator.random(states)
    return np.where(rank < max(round((1.0 - sparsity) * states), 1), prize, 0.0)


def _distracted(
    following: np.ndarray, probability: np.ndarray, values: int
) -> tuple[np.ndarray, np.ndarray]:
    """Next places and their probabilities with a second factor that is uniform at each step.

    From `[S, A, K]` to `[values S, A, K values]`.
    """
    states, actions, _ = following.shape
    places = following[..., None] + states * np.arange(values)
    chance = np.broadcast_to(probability[..., None] / values, places.shape)
    shape = (states, actions, -1)
    return (
        np.tile(places.reshape(shape), (values, 1, 1)),
        np.tile(chance.reshape(shape), (values, 1, 1)),
    )
