"""Pictures of episodes: which runs are shown, what of them, and that no file of them can break a report."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests import test_report_scale as scale
from tests.report_study import ENVS, write_study
from vfcompare.report.figures import paths
from vfcompare.report.pages.document import compose
from vfcompare.report.pages.writing import report_files
from vfcompare.report.reading.data import load
from vfcompare.report.reading.files import Pixels, read_pictures
from vfcompare.runs import pictures
from vfcompare.types import Rollout


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([3.0, 1.0, 2.0], {"median": 2, "worst": 1}),
        ([3.0, 1.0], {"median": 0, "worst": 1}),
        ([np.nan, 1.0], {"median": 1}),
        ([np.nan], {}),
        ([2.0, 2.0, 2.0, 2.0], {"median": 2, "worst": 0}),
    ],
)
def test_the_rule_names_the_runs(returns, expected):
    assert pictures.ranked(np.array(returns)) == expected


def rollout(first, terminated, truncated=None):
    """One rollout with these flags."""
    row = lambda x: jnp.array(x, jnp.float32)[None, None]  # noqa: E731
    steps = len(first)
    return Rollout(
        obs=row([0] * (steps + 1)),
        action=row([0] * steps),
        log_prob=row([0] * steps),
        reward=row([1] * steps),
        terminated=row(terminated),
        truncated=row(truncated or [0] * steps),
        mask=row([1] * steps),
        first=row(first),
        state=np.arange(steps + 1)[None, None],
    )


@pytest.mark.parametrize(
    ("first", "terminated", "truncated", "rows"),
    [
        ([1, 0, 0, 0], [0, 0, 1, 0], None, (0, 3)),
        ([0, 1, 0, 1], [1, 0, 1, 0], None, (1, 2)),
        ([1, 0, 0, 0], [0, 0, 0, 0], None, (0, 4)),
        ([1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0], (0, 2)),
        ([0, 0, 0, 0], [0, 0, 0, 1], None, (0, 4)),
    ],
    ids=["episode", "fragment", "cut off", "truncated", "begun before"],
)
def test_an_episode_is_found_in_a_batch(first, terminated, truncated, rows):
    assert pictures.episode(rollout(first, terminated, truncated)) == rows


class Pictured:
    """Draws the number of a state as a grey."""

    def render_init(self):
        return ()

    def render_image(self, state, render_state):
        return render_state, np.full((250, 400, 3), state, np.uint8)


def test_pictures_are_evenly_spaced_and_small():
    drawn = pictures.draw(Pictured(), rollout([1] + [0] * 29, [0] * 29 + [1]))
    assert drawn["frames"].shape == (pictures.FRAMES, 125, 200, 3)
    assert drawn["steps"].tolist() == drawn["frames"][:, 0, 0, 0].tolist()
    assert (drawn["steps"][0], drawn["steps"][-1]) == (0, 30)
    assert (int(drawn["length"]), float(drawn["return"])) == (30, 30.0)


def test_an_environment_without_a_picture_has_none():
    class Bare(Pictured):
        def render_image(self, state, render_state):
            raise NotImplementedError

    assert pictures.draw(Bare(), rollout([1, 0], [0, 1])) == {}


def test_the_shown_episode_is_the_next_batch_s(build):
    env, learner = build("agent=rloo", "env=maze_small")
    state = learner.init(jax.random.key(0))
    collected = learner.rollout(state.params["policy"], state.collector, jax.random.key(1))
    drawn = pictures.draw(env, jax.device_get(collected))
    assert drawn["length"] == collected.mask[0, 0].sum()
    assert drawn["return"] == pytest.approx(float((collected.reward * collected.mask)[0, 0].sum()))


def test_strips_lie_beside_each_other_and_lines_of_text_below():
    assert pictures.strip(np.zeros((3, 10, 20, 3), np.uint8)).shape == (10, 68, 3)
    assert pictures.strip(np.zeros((3, 10, 80, 3), np.uint8)).shape == (38, 80, 3)


def test_animations_and_pictures_can_be_read_back():
    frames = np.random.default_rng(0).integers(0, 255, (4, 12, 16, 3)).astype(np.uint8)
    with Image.open(io.BytesIO(pictures.gif(frames))) as movie:
        assert (len(list(ImageSequence.Iterator(movie))), movie.size) == (4, (16, 12))
    with Image.open(io.BytesIO(pictures.png(frames[0]))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), frames[0])


def told(number=0, **changes):
    """What a run leaves, with changes."""
    frames = np.full((3, 30, 40, 3), 60 * number, np.uint8)
    run = {
        "frames": frames,
        "steps": [0, 2, 5],
        "length": 5,
        "return": 1.0,
        "seed": number,
    } | changes
    return {f"median_{key}": value for key, value in run.items() if value is not None}


def study(tmp_path, **changes):
    root = write_study(tmp_path, agents={"rloo": 1.0}, envs={"maze": ENVS["maze"]}, seeds=6)
    (folder,) = (path.parent for path in root.glob("*/run.json"))
    np.savez(folder / "paths.npz", **told(**changes))
    return root


def test_environments_that_are_not_drawn_are_counted_and_not_read(tmp_path, monkeypatch):
    envs = {f"maze{n}": ENVS["maze"] for n in range(4)}
    root = write_study(tmp_path, agents={"rloo": 1.0}, envs=envs, seeds=2)
    for path in root.glob("*/run.json"):
        np.savez(path.parent / "paths.npz", **told())
    read: list[Path] = []

    def counted(path: Path) -> dict[str, Pixels]:
        read.append(path)
        return read_pictures(path)

    monkeypatch.setattr(paths, "FIGURES", 2)
    monkeypatch.setattr(paths, "read_pictures", counted)
    pictures = compose(load(root)).pictures
    drawn = [picture for name, picture in pictures.items() if name.startswith("paths")]
    assert len(drawn) == len(read) == 2
    assert all("The first 2 of 4 environments are drawn." in one.caption for one in drawn)


def test_a_report_shows_the_episodes_and_their_animations(tmp_path):
    read = load(study(tmp_path, number=2))
    picture = compose(read).pictures["paths-1"]
    assert picture.data.rows[-1] == ("rloo", "median", 2, 3, 5, 5, 1.0)
    assert "n = 1 episode each" in picture.caption
    files = report_files(read)
    assert files["figures/paths-1-1.gif"].startswith(b"GIF89a")
    assert b'href="figures/paths-1-1.gif"' in files["index.html"]
    assert files == report_files(read)


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": np.zeros((3, 30, 40, 4), np.uint8)},
        {"frames": np.zeros((3, 30, 40, 3))},
        {"frames": np.zeros((200, 3, 4, 3), np.uint8)},
        {"frames": np.array(["<script>"] * 3)},
        {"frames": None},
        {"steps": [0, 1]},
        {"steps": [0.0, np.nan, np.inf]},
        {"steps": ["a", "b", "c"]},
        {"length": np.nan},
        {"return": "x"},
        {"seed": [1, 2]},
    ],
    ids=str,
)
def test_what_are_no_pictures_is_not_shown(tmp_path, changes):
    assert "paths-1" not in compose(load(study(tmp_path, **changes))).pictures


def test_a_damaged_file_or_a_link_is_not_shown(tmp_path):
    root = study(tmp_path / "a")
    (file,) = root.glob("*/paths.npz")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert "paths-1" not in compose(load(root)).pictures
    (tmp_path / "elsewhere.npz").write_bytes(content)
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere.npz")
    assert "paths-1" not in compose(load(root)).pictures


def test_rows_of_a_sweep_are_told_apart_and_those_that_are_not_drawn_are_counted(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(scale, "RATES", scale.RATES[2:4])
    monkeypatch.setattr(scale, "AGENTS", {"rloo": 1.2, "ppo": 1.8})
    root = scale.write_sweep(tmp_path, envs=("maze",))
    for path in root.glob("*/run.json"):
        median = told(frames=np.zeros((3, 45, 200, 3), np.uint8))
        worst = {key.replace("median", "worst"): value for key, value in median.items()}
        np.savez(path.parent / "paths.npz", **median, **worst)
    picture = compose(load(root)).pictures["paths-1"]
    figure = picture.draw()
    named = [text.get_text().split("\n")[0] for axes in figure.axes for text in axes.texts]
    agents = [name for name in named if not name.startswith("return")]
    assert len(agents) == paths.MOST == 12
    assert len(set(agents)) == 6
    assert agents[0] == "rloo 0.0, 0.0004"
    assert "The first 12 of 16 rows are drawn. " in picture.caption
    assert "Numbers behind names: entropy_coef, learning_rate. " in picture.caption
    figure.draw_without_rendering()
    places = [text.get_window_extent() for axes in figure.axes for text in axes.texts]
    assert all(place.x0 > 0 and place.x1 < figure.bbox.x1 for place in places)
    assert len({row[:2] for row in picture.data.rows}) == len(picture.more) == 16
