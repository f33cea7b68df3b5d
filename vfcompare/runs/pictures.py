"""What policies do, as pictures: an episode of the median and one of the worst run of a cell.

Which runs are shown is a rule and not a choice: seeds that did not diverge are ordered by their last
evaluation.
"""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from vfcompare.types import Rollout

FRAMES = 8
"""Most pictures of an episode, evenly spaced, the first and the last among them."""

PIXELS = 200
"""Pictures that are larger are shrunk by a whole factor, but for the longer side of a line of text."""


def ranked(returns: np.ndarray) -> dict[str, int]:
    """Which of some runs are shown, by name; diverged ones, without a finite return, are not.

    Args:
      returns: `[seeds]`, of the last evaluation.

    Returns:
      `median`, the upper one of two, and, where there are several, `worst`.
    """
    order = [
        int(index) for index in np.argsort(returns, kind="stable") if np.isfinite(returns[index])
    ]
    if not order:
        return {}
    found = {"median": order[len(order) // 2]}
    return found | ({"worst": order[0]} if len(order) > 1 else {})


def draw(env: Any, rollout: "Rollout") -> dict[str, np.ndarray]:
    """The first whole episode of a batch.

    Args:
      env: that draws its states.
      rollout: on the host, with states.

    Returns:
      `frames uint8[F, height, width, 3]`, `steps [F]`, after how many steps each was, and the episode's
      `length` and `return`, as far as it was collected. Nothing where the environment has no picture.
    """
    # The report shows pictures and never needs JAX.
    import jax

    begin, end = episode(rollout)
    taken = slice(begin, end)
    steps = np.unique(np.linspace(0, end - begin, FRAMES).round().astype(int))
    states = [jax.tree.map(lambda x, t=begin + s: x[0, 0, t], rollout.state) for s in steps]
    try:
        frames = [env.render_image(state, env.render_init())[1] for state in states]
    except NotImplementedError:
        return {}
    paid = np.asarray(rollout.reward[0, 0, taken] * rollout.mask[0, 0, taken])
    return {
        "frames": np.stack([shrunk(frame) for frame in frames]),
        "steps": steps,
        "length": np.array(end - begin),
        "return": np.array(paid.sum(dtype=np.float64)),
    }


def episode(rollout: "Rollout") -> tuple[int, int]:
    """Rows of the first step and of the last state of an episode of the first rollout.

    Fragments may begin and end inside an episode; it is then what there is of the first that begins there.
    """
    first = np.flatnonzero(rollout.first[0, 0])
    begin = int(first[0]) if first.size else 0
    over = np.asarray(rollout.terminated[0, 0] + rollout.truncated[0, 0])[begin:]
    ends = np.flatnonzero(over)
    last = begin + (int(ends[0]) if ends.size else len(over) - 1)
    # The row after the end of an episode may be the beginning of another.
    another = last + 1 < rollout.first.shape[2] and rollout.first[0, 0, last + 1] > 0
    return begin, last if another else last + 1


def shrunk(picture: np.ndarray) -> np.ndarray:
    """A picture whose shorter side has at most `PIXELS`: means of squares."""
    factor = -(-min(picture.shape[:2]) // PIXELS)
    if factor == 1:
        return picture
    height, width = (size - size % factor for size in picture.shape[:2])
    return np.asarray(Image.fromarray(picture[:height, :width]).reduce(factor))


def strip(frames: np.ndarray) -> np.ndarray:
    """Pictures of an episode as one: side by side, or one above the other where they are wide.

    Args:
      frames: `uint8[F, height, width, 3]`.
    """
    _, height, width, _ = frames.shape
    across = height >= width / 3
    gap = np.full((height, 4, 3) if across else (4, width, 3), 255, np.uint8)
    parts = [part for frame in frames for part in (frame, gap)][:-1]
    return np.concatenate(parts, axis=1 if across else 0)


def png(picture: np.ndarray) -> bytes:
    """A picture as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def gif(frames: np.ndarray) -> bytes:
    """Pictures of an episode as an animation, half a second each and the last one longer."""
    stream = io.BytesIO()
    first, *others = (Image.fromarray(frame) for frame in frames)
    times = [500] * len(others) + [1500]
    first.save(stream, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    return stream.getvalue()
