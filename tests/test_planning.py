"""What a cell will take, by what runs like it took; and what is refused before anything is traced."""

import numpy as np
import pytest

from tests.helpers import PARQUET, write_files
from vfcompare.commands import compose, planning
from vfcompare.errors import InputError
from vfcompare.main import main
from vfcompare.runs import plan, store
from vfcompare.runs.run_folder import RunFolder
from vfcompare.training.cell import Cell

COLUMNS = 27


def cell(seeds=2, steps=1_000, agent="rloo"):
    config = {"seeds": seeds, "first_seed": 0, "env_steps": steps}
    return Cell(agent, "maze", {}, config | {"evaluations": 20, "save_seconds": 30})


def leave(
    root, steps, *, seeds=2, train=None, ended="2026", state=100_000, compiled=8.0, traced=()
):
    """Files like those of a run: an update takes 400 steps."""
    folder = root / "study" / f"{steps}-{seeds}-{ended}"
    rows = max(steps // 400, 1) * seeds
    rng = np.random.default_rng(0)
    metrics = {f"column {i}": rng.random(rows).astype(np.float32) for i in range(COLUMNS)}
    store.write_table(folder / "metrics.parquet", metrics)
    sizes = {"evaluation.parquet": 4_000, "paths.npz": 14_000, "tb/all-seeds/events": 40_000}
    sizes |= {f"tb/seed-{seed}/events": 28_000 for seed in range(seeds)}
    for number in range(1 if train is None else 2):
        sizes[f"checkpoint/state-{number}.msgpack"] = state * seeds
    for name, size in sizes.items():
        store.write_bytes(folder / name, bytes(size))
    spent = {"compile": compiled, "train": train or steps * seeds / 50_000}
    record = {"status": "completed", "agent": "rloo", "env": "maze", "ended": ended, "point": 20}
    record |= {"seeds": {str(seed): {} for seed in range(seeds)}, "env_steps": steps * seeds}
    record |= {"traced": list(traced), "seconds": spent | {"total": sum(spent.values()) + 2}}
    store.write_json(folder / "run.json", record)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("longer", [1, 10, 1_000])
@pytest.mark.parametrize("seeds", [1, 2, 20])
def test_a_quick_trial_tells_the_size_of_a_long_run(tmp_path, longer, seeds):
    leave(tmp_path / "trial", 400)
    real = leave(tmp_path / "real", 400 * longer, seeds=seeds)
    told = planning.cost(cell(seeds, 400 * longer), planning.likes(tmp_path / "trial"))
    assert real / 1.5 < told.size < 1.5 * real


def test_seconds_are_those_of_compiling_and_so_many_for_a_step(tmp_path):
    leave(tmp_path, 1_000)
    told = planning.cost(cell(steps=1_000_000), planning.likes(tmp_path))
    assert told.seconds == pytest.approx(10 + 2_000_000 / 50_000)


@pytest.mark.parametrize("first", [True, False])
def test_programs_that_a_run_found_on_the_disk_may_have_to_be_compiled(tmp_path, first):
    leave(tmp_path, 1_000, ended="2025" if first else "2027")
    leave(tmp_path, 9_000, compiled=1.0, ended="2026")
    (like,) = planning.likes(tmp_path).values()
    assert (like.steps, like.compile) == (9_000, 8)
    assert like.beside == pytest.approx(2)


def test_a_share_of_one_program_is_not_what_a_cell_takes_alone(tmp_path):
    for ended in ("2025", "2026", "2027"):
        leave(tmp_path, 1_000, compiled=3.0, traced=["agent.gamma"], ended=ended)
    (like,) = planning.likes(tmp_path).values()
    assert like.compile == 9
    leave(tmp_path / "other", 1_000, compiled=3.0, ended="2025")
    leave(tmp_path / "other", 1_000, compiled=3.0, ended="2026")
    (like,) = planning.likes(tmp_path / "other").values()
    assert like.compile == 3


def test_two_checkpoints_are_reckoned_with_where_training_outlasts_a_save(tmp_path):
    leave(tmp_path, 1_000)
    known = planning.likes(tmp_path)
    short, long = (planning.cost(cell(steps=steps), known).size for steps in (10_000, 1_000_000))
    assert long - short > 200_000
    leave(tmp_path, 2_000, train=60.0)
    assert planning.cost(cell(steps=1_000), planning.likes(tmp_path)).size < short


def test_the_longest_run_is_asked_and_not_the_last(tmp_path):
    leave(tmp_path, 40_000, ended="2025")
    leave(tmp_path, 100, ended="2026")
    (like,) = planning.likes(tmp_path).values()
    assert like.steps == 40_000


def test_of_what_was_never_run_no_time_is_known(tmp_path):
    leave(tmp_path, 1_000)
    told = planning.cost(cell(agent="ppo"), planning.likes(tmp_path))
    assert told == (None, 2 * planning.BYTES_PER_SEED)


@pytest.mark.parametrize("harm", ["metrics.parquet", "checkpoint/state-0.msgpack"])
def test_a_run_whose_files_are_gone_tells_nothing(tmp_path, harm):
    leave(tmp_path, 1_000)
    next(tmp_path.rglob(harm)).unlink()
    assert planning.likes(tmp_path) == {}


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_root_that_cannot_be_written_is_refused_before_anything_is_traced(
    tmp_path, monkeypatch, capsys, sweep
):
    monkeypatch.setattr(planning, "rehearse", lambda config: pytest.fail("traced"))
    root = tmp_path / "file"
    root.touch()
    assert main([*sweep, "agent=rloo", "env=lock", f"root={root}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    told = "cannot be written: Not a directory; allowed: a folder that you may write to"
    assert line == f"vfcompare: root={root} {told}"
    assert list(tmp_path.iterdir()) == [root]


WALK = """
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete
from vfcompare.envs.base import Reference, Task

class Walk(Task):
    action_space, observation_space, horizon = Discrete(2), Box(0.0, 1.0, (1,), np.float32), 8

    def __init__(self, random=None, optimal=None, plain=False):
        super().__init__()
        self._known = (random, optimal) if plain else Reference(random, optimal)

    @property
    def reference(self):
        return self._known

    def initial(self, rng, params=None):
        return jnp.int32(0)

    def transition(self, state, action, rng, params=None):
        return state + 1

    def observation(self, state, rng, params=None):
        return jnp.float32(state)[None] / 8

    def reward(self, state, action, next_state, rng, params=None):
        return jnp.float32(action)

    def terminal(self, state, rng, params=None):
        return state == 8
"""

LOCK = ("agent=rloo", "env=lock", "seeds=2", "env_steps=2000")


def begun(root, *settings):
    """A study whose cells are planned, and nothing is trained."""
    planned = compose.cells([*LOCK, f"root={root}", "study.name=shrink", *settings], sweep=True)
    plan.write(planned[0].study, planned[0].config["study"], [cell.planned() for cell in planned])
    return planned


@pytest.mark.parametrize("verb", [["plan"], ["submit", "--dry-run"]], ids=["plan", "submit"])
@pytest.mark.parametrize("changed", ["study.margin=0.2", "study.reference={lock:[0,2]}"])
def test_other_decisions_than_a_study_was_begun_with_are_refused_where_it_is_only_looked_at(
    tmp_path, capsys, changed, verb
):
    begun(tmp_path)
    before = (tmp_path / "shrink" / "plan.json").read_bytes()
    assert main([*verb, *LOCK, f"root={tmp_path}", "study.name=shrink", changed]) == 2
    out, err = capsys.readouterr()
    assert f"{changed} is not allowed: {tmp_path / 'shrink'} was begun with" in err
    assert not out
    assert (tmp_path / "shrink" / "plan.json").read_bytes() == before


def test_names_of_cells_stay_whole(tmp_path, capsys):
    more = ["agent.gamma=0.5,0.6", "agent.network.hidden=[16,16]", "agent.entropy_coef=0.125"]
    words = [*LOCK, *more, f"root={tmp_path}"]
    assert main(["plan", *words]) == 0
    first, head, *lines = capsys.readouterr().out.splitlines()
    names = [cell.id for cell in compose.cells(words, sweep=True)]
    assert first == "2 cells"
    assert head.split() == ["cell", "seeds", "steps", "a", "seed", "seconds", "MB"]
    assert [line.split()[:3] for line in lines[:2]] == [[name, "2", "2,000"] for name in names]
    assert all(len(name) > 80 for name in names)
    assert lines[2].startswith("2 cells to go, ")


def test_who_is_contrasted_and_not_planned_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(planning, "rehearse", lambda config: None)
    command = [*LOCK, f"root={tmp_path}", "study.name=shrink", "study.contrast=[rloo,grpo]"]
    told = "vfcompare: study.contrast names grpo, and no such run is planned yet; until one is"
    assert main(["plan", *command]) == 0
    assert told in capsys.readouterr().err
    planning.begin(compose.cells(command, sweep=True))
    assert told in capsys.readouterr().err
    planning.begin(compose.cells(["agent=grpo", *command[1:]], sweep=True))
    assert main(["plan", *command]) == 0
    assert "contrast" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (
            "credit._target_=vfcompare.returns.outcome,vfcompare.returns.reward_togo",
            "'reward_to_go'",
        ),
        ("baseline._target_=vfcompare.baselines.group_mean,mine_half.hlaf", "'half'"),
    ],
)
def test_a_mistyped_target_of_the_last_cell_is_refused_before_the_first_is_planned(
    word, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(planning, "rehearse", lambda config: None)
    monkeypatch.syspath_prepend(tmp_path)
    write_files(tmp_path, {"mine_half.py": "def half(sample): return sample.credit / 2"})
    words = ["agent=rloo", "env=lock", f"root={tmp_path}/runs", f"agent.estimator.advantage.{word}"]
    assert main(["plan", *words]) == 2
    looked = capsys.readouterr().err
    assert f"did you mean {told}?" in looked
    assert main(["-m", *words]) == 2
    assert capsys.readouterr().err == looked
    assert not (tmp_path / "runs").exists()
    done = word.partition(",")[0]
    planned = compose.cells([*words[:-1], f"agent.estimator.advantage.{done}"], sweep=True)
    planning.must_be_there(planned)


def test_a_target_that_is_gone_is_not_missed_where_its_cell_is_done(tmp_path):
    words = ["agent=rloo", "env=lock", f"root={tmp_path}"]
    words.append("agent.estimator.advantage.baseline._target_=mine_gone.half")
    (cell,) = compose.cells(words, sweep=False)
    with pytest.raises(InputError, match="No module named 'mine_gone'"):
        planning.must_be_there([cell])
    RunFolder(cell.study / cell.id).update(status="completed")
    (cell.study / cell.id / "evaluation.parquet").write_bytes(PARQUET)
    planning.must_be_there([cell])


@pytest.fixture
def walk(tmp_path, monkeypatch):
    """The settings of a task of one's own."""
    text = "_target_: walking.Walk\nrandom: null\noptimal: null\nplain: false\n"
    write_files(tmp_path, {"walking.py": WALK, "conf/env/walk.yaml": text})
    monkeypatch.syspath_prepend(tmp_path)
    return (
        "agent=rloo",
        "env=walk",
        f"root={tmp_path}",
        f"hydra.searchpath=[file://{tmp_path}/conf]",
    )


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ((), "study.reference={walk:[RANDOM,OPTIMAL]}"),
        (("env.random=4",), "study.reference={walk:[4,OPTIMAL]}"),
        (("env.random=4", "env.optimal=8"), None),
        (("study.reference={walk:[4,8]}",), None),
    ],
)
def test_a_task_of_ones_own_without_a_scale_is_told_once_before_the_first_run(
    walk, known, told, monkeypatch, capsys
):
    monkeypatch.setattr(planning, "rehearse", lambda config: None)
    assert main(["plan", "agent=rloo,reinforce", *walk[1:], *known]) == 0
    looked = capsys.readouterr().err
    planned = compose.cells([*walk, *known], sweep=True)
    planning.begin(planned)
    assert capsys.readouterr().err == looked
    if told is None:
        assert not looked
        return
    begins = "vfcompare: walk has no known random and optimal return: scores are raw returns, and"
    assert looked.startswith(begins)
    assert looked.endswith(f"{told}\n")
    assert looked.count("\n") == 1
    assert next(planning.unscaled(planned)).endswith(f"{told}, of another study: this one is begun")


NO_SCALE = {
    "env.random=1 env.optimal=0": "env.reference: random=1 and optimal=0 are not allowed; allowed: the sec",
    "env.random=1 env.optimal=1.0": "env.reference: random=1 and optimal=1 are not allowed",
    "env.random=nan": "env.reference.random=nan is not allowed; allowed: None, or a finite number",
    "env.optimal=high": "env.reference.optimal='high' is not allowed; allowed: None, or a finite number",
    "env.plain=true": "env.reference is a tuple; allowed: vfcompare.envs.base.Reference(random, optimal, th",
}


@pytest.mark.parametrize("more", [(), ("study.reference={walk:[4,8]}",)], ids=["", "told"])
@pytest.mark.parametrize("known", NO_SCALE)
def test_a_task_of_ones_own_whose_returns_are_no_scale_is_refused(known, more, walk, capsys):
    assert main(["plan", *walk, *known.split(), *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vfcompare: {NO_SCALE[known]}")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("seeds=5", "first_seed=2 seeds=3 trains only what is missing of 1 cell: "),
        ("seeds=1", ""),
        ("seeds=2", ""),
        ("seeds=2 first_seed=2", ""),
        ("seeds=5 agent.gamma=0.5", ""),
        ("seeds=3 first_seed=1", "first_seed=2 seeds=2 trains only "),
    ],
)
def test_how_to_add_seeds_without_training_the_others_again_is_told(tmp_path, capsys, more, told):
    (cell,) = begun(tmp_path)
    settings = [f"root={tmp_path}", "study.name=shrink"]
    words = ["plan", *LOCK[:2], LOCK[3], *more.split(), *settings]
    assert main(words) == 0
    assert "trains only" not in capsys.readouterr().out
    store.write_json(cell.study / cell.id / "run.json", {"status": "completed"})
    (cell.study / cell.id / "evaluation.parquet").write_bytes(PARQUET)
    assert main(words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert told in out
    assert ("trains only" in out) == bool(told)
