"""`hydra/launcher=fused`: a whole sweep in this process, cells that differ only in numbers in one program."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from vfcompare.cell import Cell
from vfcompare.compose import to_cell
from vfcompare.resume import train


class Fused(Launcher):
    """Hydra's launcher interface; what Hydra's own launchers run job by job is here run group by group."""

    outcomes: ClassVar[list[str]] = []

    def __init__(self, most: int) -> None:
        """Remember the settings.

        Args:
          most: seeds of one program, over all its cells.
        """
        self._most = most

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before `launch`."""
        del task_function
        self._context, self._config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Train all cells of a sweep; a failure is of its group alone."""
        setup_globals()
        jobs = [
            self._job(list(overrides), initial_job_idx + index)
            for index, overrides in enumerate(job_overrides)
        ]
        outcomes = train(list({cell.id: cell for cell, _ in jobs}.values()), self._most)
        self.outcomes.extend(outcomes.values())
        for cell, made in jobs:
            made.status, made.return_value = JobStatus.COMPLETED, outcomes[cell.id]
        return [made for _, made in jobs]

    def _job(self, overrides: list[str], number: int) -> tuple[Cell, JobReturn]:
        cfg = self._context.config_loader.load_sweep_config(self._config, overrides)
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = str(number), number
        HydraConfig.instance().set_config(cfg)
        task = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        made = JobReturn(
            overrides=list(filter_overrides(overrides)),
            cfg=task,
            hydra_cfg=OmegaConf.masked_copy(cfg, "hydra"),
            working_dir=str(Path(cfg.hydra.sweep.dir).absolute()),
            task_name=cfg.hydra.job.name,
        )
        return to_cell(task, cfg.hydra), made


def register(outcomes: list[str]) -> None:
    """Make the launcher known to Hydra, which takes one only from modules of a package of this name.

    Args:
      outcomes: to which is added how each cell ended.
    """
    module = ModuleType("hydra_plugins.vfcompare_fused")
    Fused.__module__ = module.__name__
    Fused.outcomes = outcomes
    setattr(module, Fused.__name__, Fused)
    sys.modules[module.__name__] = module
    Plugins.instance().register(Fused)
