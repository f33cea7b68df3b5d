"""How long a run takes, in words."""

import contextlib
import io
from pathlib import Path

import pytest

from vfcompare.commands import compose
from vfcompare.runs import status
from vfcompare.runs.store import read_json
from vfcompare.training.execute import execute
from vfcompare.training.progress import HEARTBEAT, Progress, duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (60, "60 s"),
        (600, "10 minutes"),
        (5000, "83 minutes"),
        (5400, "2 hours"),
        (102_000, "28 hours"),
        (172_800, "2 days"),
    ],
)
def test_a_time_is_said_in_the_unit_that_makes_it_short(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_after_a_resume_speed_and_time_left_are_those_of_what_is_done_now() -> None:
    out = io.StringIO()
    progress = Progress("cell", 1_000, out)
    progress.resumed_at = 500
    progress._shown -= HEARTBEAT
    progress.show(600, 10.0)
    progress.done("runs/s/cell", 1_000, 50.0, 1.0)
    shown, done = out.getvalue().splitlines()
    assert shown == "cell:  60%  10 steps/s  40 s left"
    assert done == "runs/s/cell: 500 steps in 50.0 s (10/s), compiled in 1.0 s"


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_seeds_that_diverged_are_not_waited_for(tmp_path: Path, monkeypatch) -> None:
    """All of them do, at a learning rate beyond all reason, and what is shown last is the end."""
    settings = [f"root={tmp_path}", "agent=ppo", "env=cartpole", "env_steps=20000", "seeds=2"]
    shown: list[tuple[int, int]] = []
    monkeypatch.setattr(
        Progress, "show", lambda self, steps, seconds: shown.append((steps, self.total))
    )
    cells = compose.cells(
        [*settings, "evaluations=1", "agent.optimizer.learning_rate=1e38"], sweep=False
    )
    assert execute(cells) == {cells[0].id: "diverged"}
    assert 0 < shown[-1][0] == shown[-1][1] < 2 * 20000
    (cell,) = status.read(cells[0].study)
    seeds = read_json(cells[0].study / cell.id / "run.json")["seeds"]
    told = (f"seed {name} diverged in update {seeds[name]['update']}, " for name in ("0", "1"))
    assert cell.note.startswith("".join(told))


class Terminal(io.StringIO):
    """A terminal, as far as `Progress` asks."""

    def isatty(self) -> bool:
        """It is one."""
        return True


CLEAR = "\r\x1b[2K"


@pytest.mark.parametrize(("out", "over", "end"), [(io.StringIO, "", "\n"), (Terminal, CLEAR, "")])
def test_compiling_is_said_at_once_and_the_last_line_has_the_folder_and_the_return(
    out: type[io.StringIO], over: str, end: str
) -> None:
    written = out()
    with Progress("cell", 1_000, written) as progress:
        assert written.getvalue() == f"{over}cell: compiling ...{end}"
        progress.done("runs/s/cell", 1_000, 2.0, 1.0, final=0.8125, diverged=1)
    told = "1,000 steps in 2.0 s (500/s), compiled in 1.0 s, return 0.812, 1 seed diverged"
    assert written.getvalue().endswith(f"{over}runs/s/cell: {told}\n{over}")


def test_what_is_shown_on_a_terminal_is_gone_before_an_error_is_printed() -> None:
    out = Terminal()
    with contextlib.suppress(ValueError), Progress("cell", 1_000, out):
        raise ValueError
    assert out.getvalue().endswith(CLEAR)
