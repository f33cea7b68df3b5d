"""One cell of a sweep: an agent on an environment, with all its seeds, as its configuration describes it."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vfcompare.assemble import assemble
from vfcompare.errors import Damaged, InputError, error_text, user_frame
from vfcompare.runs import naming, run_folder
from vfcompare.schema.settings import PRIVATE, goes_along
from vfcompare.schema.tree import replaced
from vfcompare.training import judges, priors, tasks
from vfcompare.training.tasks import own

if TYPE_CHECKING:
    from vfcompare.types import Learner


class Cell(NamedTuple):
    """What is to be run.

    Attributes:
      agent: name of its preset.
      env: name of its preset.
      settings: overrides beyond the two, `key: value` as typed.
      config: resolved and plain.
      overrides: from which it was composed, as typed.
    """

    agent: str
    env: str
    settings: dict[str, str]
    config: dict[str, Any]
    overrides: tuple[str, ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        """The part of the configuration that determines the result."""
        return {key: value for key, value in self.config.items() if key not in PRIVATE}

    @property
    def id(self) -> str:
        """Name of the run's folder."""
        return naming.cell_id(self.agent, self.env, self.settings, self.identity)

    @property
    def seeds(self) -> list[int]:
        """The seeds to train."""
        first = self.config["first_seed"]
        return list(range(first, first + self.config["seeds"]))

    @property
    def study(self) -> Path:
        """Folder of the study."""
        return Path(self.config["root"]) / naming.slug(str(self.config["study"]["name"]))

    @property
    def state(self) -> str:
        """Why it is not to be trained: it is `done`, to its end, or `damaged`; nothing if it is."""
        try:
            return "done" if self.opened().completed else ""
        except InputError:
            return "damaged"

    def opened(self) -> run_folder.RunFolder:
        """Its run on disk.

        Raises:
          InputError: if that is to be left alone, see `RunFolder`.
          Damaged: also if it was trained to its end, and a file of it has lost its own.
        """
        folder = run_folder.RunFolder(self.study / self.id)
        if folder.completed and (broken := run_folder.torn(folder.path)):
            raise Damaged(f"{folder.path}: {broken}; remove this folder to begin the run anew")
        return folder

    def planned(self) -> dict[str, Any]:
        """What `plan.json` says of this cell: all that a later command needs, wherever it is given."""
        said = {
            "id": self.id,
            "agent": self.agent,
            "env": self.env,
            "settings": self.settings,
            "seeds": self.seeds,
            "env_steps": self.config["env_steps"],
            "overrides": [text for text in self.overrides if not goes_along(text)],
        }
        place = Path(self.config["priors"])
        if self.config["agent"].get("prior") and not place.is_absolute():
            # Seen from `root`, since both may be moved together.
            said["priors"] = os.path.relpath(place.resolve(), self.study.resolve().parent)
        return said


class Member(NamedTuple):
    """A cell that is trained, alone or with others in one program.

    Attributes:
      cell: what is trained.
      folder: of its run.
      checkpoint: from which it goes on, if any; those of one program all have one of the same point, or none.
    """

    cell: Cell
    folder: run_folder.RunFolder
    checkpoint: run_folder.Checkpoint | None = None


def whole(cells: Iterable[Cell]) -> list[Member]:
    """Open the runs of cells, but for those that are damaged: says of what, and leaves them alone."""
    found = []
    for cell in cells:
        try:
            found.append(Member(cell, cell.opened()))
        except InputError as error:
            print(f"{cell.id}: left alone: {error}", file=sys.stderr)
    return found


def build(
    config: Mapping[str, Any],
    numbers: Mapping[str, Any] | None = None,
    *,
    rehearsal: bool = False,
) -> "Learner":
    """Make the learner of a configuration.

    Args:
      config: resolved and plain.
      numbers: what stands in place of numbers of the configuration, by path, such as what JAX traces.
      rehearsal: whether only shapes matter, so that a prior need not have been made.

    Raises:
      InputError: where a part refuses its parameters.
    """
    chosen = dict(config)
    for path, value in (numbers or {}).items():
        chosen = replaced(chosen, path.split("."), value)
    with saying_where(config):
        env = tasks.make(chosen["env"])
        prior = priors.load_prior(chosen, rehearsal=rehearsal)
        judge = judges.load_judge(chosen, env, rehearsal=rehearsal)
        agent = {k: part for k, part in chosen["agent"].items() if k not in ("prior", "judge")}
        learner: Learner = assemble(agent, "agent", env=env, prior=prior, judge=judge)
        return learner


@contextmanager
def saying_where(config: Mapping[str, Any]) -> Iterator[None]:
    """Say of an error what it is in one line, and where: in a line of the user's code, or beside which parts.

    Errors of ours that refuse nothing, where no part is the user's, stay what they are.

    Raises:
      InputError: in place of others.
    """
    try:
        yield
    except InputError:
        raise
    except SystemExit as error:
        raise InputError(
            f"a part {error_text(error)}{user_frame(error) or beside(config)}"
        ) from error
    except Exception as error:
        refused = isinstance(error, ValueError) and "allowed" in str(error)
        where = user_frame(error) or ("" if refused else beside(config))
        if not where and not isinstance(error, ValueError | ImportError):
            raise
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        told = str(error) if refused else next(iter(str(error).splitlines()), "")
        raise InputError(f"{kind}{told}{where}") from error


def beside(config: Mapping[str, Any]) -> str:
    """The parts of the user's own, one of which may be the cause, as a clause."""
    found = ", ".join(own(config))
    return f"; of your own here: {found}" if found else ""


def rehearse(config: Mapping[str, Any]) -> None:
    """Trace one update without running it: what parts refuse of each other shows before anything is written.

    Raises:
      InputError: for what they refuse.
    """
    import jax
    import jax.numpy as jnp

    learner = build(config, rehearsal=True)
    key = jax.random.key(0)
    with saying_where(config):
        jax.eval_shape(learner.update, jax.eval_shape(learner.init, key), key, jnp.float32(0.0))
