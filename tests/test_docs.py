"""docs/files.md: its Python runs on what its command leaves, and it names every column there is."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pyarrow.parquet as pq
import pytest

from tests.helpers import write_files
from vfcompare.commands.compose import cells
from vfcompare.training.cell import rehearse

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "files.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
OTHERS = ("evpo", "vtrace", "vine", "dapo", "gspo", "ppo_quantile")
"""Agents that have columns of their own, and some that may come to have them."""
TOKENS = ("network@agent.network=transformer_tiny", "agent.evaluation_attempts=4")


def unnamed(columns):
    """Which of some columns the page does not name; of numbered ones it names the first."""
    return {name for name in columns if f"`{re.sub(r'below_[2-7]$', 'below_1', name)}`" not in PAGE}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("docs")
    words = shlex.split(
        next(line for line in PAGE.splitlines() if line.startswith("    vfcompare "))
    )
    command = [sys.executable, "-m", "vfcompare", *words[1:]]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return place


def test_the_page_names_every_file_and_column_of_its_runs(folder):
    runs = [path for path in (folder / "runs" / "scratch").iterdir() if path.is_dir()]
    assert len(runs) == 2
    for run in runs:
        for path in run.iterdir():
            assert f"`{path.name}{'/' if path.is_dir() else ''}`" in PAGE, path.name
        for table in ("metrics", "evaluation"):
            assert unnamed(pq.read_schema(run / f"{table}.parquet").names) == set()


@pytest.mark.parametrize(
    "words",
    [
        *((f"agent={name}", "env=lock") for name in OTHERS),
        ("agent=ppo", "env=lock", "+penalty@agent.penalty=k3_loss"),
        ("agent=rloo", "env=addition", *TOKENS),
        ("agent=rloo", "env=addition_report", *TOKENS),
    ],
    ids=" ".join,
)
def test_the_page_names_the_columns_of_other_agents(build, words):
    _, learner = build(*words)
    key = jax.random.key(0)
    state = jax.eval_shape(learner.init, key)
    metrics = jax.eval_shape(learner.update, state, key, jnp.float32(0.0)).metrics
    evaluation = jax.eval_shape(learner.evaluate, state.params["policy"], key)
    assert unnamed(metrics) | unnamed(evaluation) == set()


def test_the_python_of_the_page_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    assert len(SNIPPETS) == 5
    for snippet in SNIPPETS:
        exec(compile(snippet, "docs/files.md", "exec"), names)
    assert os.path.getsize("curves.png") > 0
    assert names["total"] in (0.0, 1.0)
    assert "{0: " in capsys.readouterr().out


def written(text):
    """The files that a page shows, indented, each below a comment with its name."""
    found, name = {}, None
    for line in text.splitlines():
        head = re.fullmatch(r"    # ([\w/]+\.(?:py|yaml))", line)
        if head:
            name = head.group(1)
            found[name] = ""
        elif (line and not line.startswith("    ")) or line.startswith("    PYTHONPATH"):
            name = None
        elif name:
            found[name] += f"{line[4:]}\n"
    return found


def test_the_parts_of_ones_own_that_the_page_shows_train(tmp_path, monkeypatch):
    section = PAGE[PAGE.index("## Parts of your own outside the clone") :]
    write_files(tmp_path, written(section))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PWD", str(tmp_path))
    commands = re.findall(
        r"^    PYTHONPATH=\$PWD vfcompare ((?:.*\\\n)*.*)$", section, re.MULTILINE
    )
    trained = [words for words in commands if not words.startswith("resume")]
    assert len(trained) == 3
    for words in trained:
        typed = shlex.split(os.path.expandvars(words.replace("\\\n", " ")))
        for cell in cells([word for word in typed if word != "-m"], sweep="-m" in typed):
            rehearse(cell.config)
