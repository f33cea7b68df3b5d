"""What Hydra calls for a sweep: `Planned` says which cells to train, `Fused` trains them together."""

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from vfcompare.commands.compose import Composer
from vfcompare.commands.naming import as_known
from vfcompare.runs import store
from vfcompare.training import crew
from vfcompare.training.cell import Cell
from vfcompare.training.sweep import tell, train

MODULE = "hydra_plugins.vfcompare"
"""Where Hydra looks for plugins: it takes them from modules of this package only."""


class Handover(NamedTuple):
    """What a command line leaves for the plugins, which Hydra makes itself, knowing nothing of cells.

    Attributes:
      cells: that are to be trained.
      argv: the whole command line, for runs to remember.
    """

    cells: Sequence[Cell] = ()
    argv: Sequence[str] = ()


class Counted:
    """Trains a cell, in whatever process, and says before which of how many it is."""

    def __init__(self, run: TaskFunction, names: Sequence[str]) -> None:
        """Remember the cells.

        Args:
          run: trains a cell.
          names: of all cells, in the order of Hydra's jobs.
        """
        self._run, self._names = run, names

    def __call__(self, config: DictConfig) -> Any:
        """Train a cell."""
        number = int(HydraConfig.get().job.num)
        tell(number, self._names[number : number + 1], len(self._names))
        return self._run(config)


class Planned(Sweeper):
    """Launches the cells of a plan that are not done: `vfcompare.main.hand_over` has the whole sequence.

    Hydra's own sweeper would compose every cell of the command line twice more, which takes longer than many
    a cell, to find what the plan has found already.
    """

    handover: ClassVar[Handover] = Handover()

    def __init__(self, max_batch_size: int | None, params: Mapping[str, str] | None) -> None:
        """Remember the settings.

        Args:
          max_batch_size: cells that are handed to the launcher at once.
          params: what is swept by default, of which the plan was made.
        """
        del params
        self._most = max_batch_size

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before `sweep`."""
        self._config = config
        self._context, self._run = hydra_context, task_function

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch them.

        Args:
          arguments: what Hydra was told, which is less than the command line.
        """
        del arguments
        sys.argv = list(self.handover.argv)
        folder = Path(self._config.hydra.sweep.dir)
        store.write_bytes(folder / "multirun.yaml", OmegaConf.to_yaml(self._config).encode())
        jobs = [list(cell.overrides) for cell in self.handover.cells]
        names = [cell.id for cell in self.handover.cells]
        size = self._most or max(len(jobs), 1)
        returns = []
        try:
            with TemporaryDirectory(prefix="vfcompare-") as place, crew.Crew(Path(place)):
                launcher = Plugins.instance().instantiate_launcher(
                    hydra_context=self._context,
                    task_function=crew.Hand(Counted(self._run, names), Path(place)),
                    config=self._config,
                )
                for begin in range(0, len(jobs), size):
                    returns.append(
                        launcher.launch(jobs[begin : begin + size], initial_job_idx=begin)
                    )
                    for job in returns[-1]:
                        # Asking raises what the job raised.
                        _ = job.return_value
        except BrokenProcessPool as error:
            # By name, since joblib need not be installed; others are of a part that has workers of its own.
            if type(error).__name__ != "TerminatedWorkerError":
                raise
            print(_killed(error, self.handover.cells[0].study), file=sys.stderr)
        return returns


def _killed(error: BrokenProcessPool, study: Path) -> str:
    """What to do where a worker of joblib has ended, in one line; its error says how, in braces."""
    how = str(error).rpartition("{")[2].partition("}")[0]
    why = "out of memory?" if "SIGKILL" in how else how
    return (
        f"vfcompare: a worker was killed ({why}); the others ended with it, and what was saved is whole; "
        f"`vfcompare resume {study}` goes on"
    )


class Fused(Launcher):
    """Hydra's launcher interface; what Hydra's own launchers run job by job is here run group by group."""

    def __init__(self, max_seeds: int) -> None:
        """Remember the settings.

        Args:
          max_seeds: of one program, over all its cells.
        """
        self._max_seeds = max_seeds

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before `launch`."""
        del task_function
        self._composer = Composer(
            lambda overrides: hydra_context.config_loader.load_sweep_config(config, overrides)
        )

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Train all cells of a sweep; a failure is of its group alone."""
        del initial_job_idx
        setup_globals()
        # Another sweeper than `Planned` has its own cells, also such as are done: composed and named here.
        planned = {cell.overrides: cell for cell in Planned.handover.cells}
        jobs = [tuple(words) for words in job_overrides]
        cells = as_known([planned.get(words) or self._composer.cell(words) for words in jobs])
        outcomes = train(list({cell.id: cell for cell in cells}.values()), self._max_seeds)
        return [
            JobReturn(
                overrides=cell.overrides,
                status=JobStatus.COMPLETED,
                _return_value=outcomes[cell.id],
            )
            for cell in cells
        ]


def register(handover: Handover) -> None:
    """Make both plugins known to Hydra, and leave for them what they need."""
    Planned.handover = handover
    module = ModuleType(MODULE)
    sys.modules[MODULE] = module
    for plugin in (Planned, Fused):
        plugin.__module__ = MODULE
        setattr(module, plugin.__name__, plugin)
        Plugins.instance().register(plugin)
