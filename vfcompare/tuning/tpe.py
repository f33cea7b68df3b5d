"""Optuna's tree-structured Parzen estimator, asked in rounds, with a journal that survives kills.

The journal is Optuna's memory and not the ledger: it holds the trials that were asked for and the scores that
were told. Every ask has a sampler of its own, seeded by the number of the trial, so that a search that was
killed proposes what it would have proposed.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vfcompare.errors import InputError
from vfcompare.schema.tree import at
from vfcompare.tuning.ledger import Rated
from vfcompare.tuning.space import Knob, Values, combine

NUMBER = "trial"
"""What a trial of ours is called in Optuna: the last that is written when one is asked for."""


class Tpe:
    """One agent on one environment, as Optuna has it."""

    def __init__(self, folder: Path, name: str, knobs: Sequence[Knob], draws: int) -> None:
        """Open its journal, which need not exist yet.

        Args:
          folder: of the journal.
          name: of Optuna's study.
          knobs: what is tried.
          draws: seed.
        """
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        file = folder / "journal.log"
        mend(file)
        backend = JournalFileBackend(str(file), lock_obj=JournalFileSymlinkLock(str(file)))
        self._knobs = {knob.path: knob for knob in knobs}
        self._draws = draws
        self._distributions = {path: distribution(knob) for path, knob in self._knobs.items()}
        self._study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name=name,
            direction="maximize",
            load_if_exists=True,
        )

    @staticmethod
    def must_exist() -> None:
        """Refuse to begin without Optuna.

        Raises:
          InputError: that says how to get it.
        """
        if find_spec("optuna") is None:
            raise InputError(
                "--sampler tpe needs Optuna: pip install '.[tune]' in the clone; else allowed: random, grid"
            )

    def ask(self, numbers: range) -> list[Values]:
        """What trials of these numbers are to try; what was asked for before is repeated."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        known = self._known()
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if NUMBER not in trial.user_attrs:
                # A kill came before it was asked for in full; nobody has trained it.
                self._study.tell(trial.number, state=TrialState.FAIL)
        for number in numbers:
            if number not in known:
                seed = int(np.random.SeedSequence([self._draws, number]).generate_state(1)[0])
                # Nobody asks before the first round is told: the start-up trials are that round, none are
                # Optuna's. One, and not none, as even a preset outside the space may be all of it.
                self._study.sampler = TPESampler(seed=seed, n_startup_trials=1)
                asked = self._study.ask(self._distributions)
                asked.set_user_attr(NUMBER, number)
        known = self._known()
        return [self._values(known[number].params) for number in numbers]

    def tell(self, rated: Sequence[Rated]) -> None:
        """How trials ended, those that nobody asked for included; what was told before stays."""
        from optuna.trial import TrialState, create_trial

        known = self._known()
        for one in rated:
            number, score = one.trial.number, one.score
            # Also of the preset, where the space has it.
            params = {path: at(one.trial.cell.config, path) for path in self._knobs}
            if number in known:
                if known[number].state == TrialState.RUNNING:
                    self._study.tell(known[number].number, score)
            elif all(knob.holds(params[path]) for path, knob in self._knobs.items()):
                self._study.add_trial(
                    create_trial(
                        params=params,
                        distributions=self._distributions,
                        value=score,
                        user_attrs={NUMBER: number},
                    )
                )

    def _known(self) -> dict[int, Any]:
        """Optuna's trials by our numbers."""
        trials = self._study.get_trials(deepcopy=False)
        return {t.user_attrs[NUMBER]: t for t in trials if NUMBER in t.user_attrs}

    def _values(self, params: Mapping[str, Any]) -> Values:
        return combine({knob: knob.shown(params[path]) for path, knob in self._knobs.items()})


def distribution(knob: Knob) -> Any:
    """A knob as Optuna has it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if knob.kind == "choice":
        return CategoricalDistribution(knob.options)
    low, high = knob.options
    return FloatDistribution(low, high, log=knob.kind == "log_uniform")


def mend(file: Path) -> None:
    """Take off a last line that a crash left half-written: Optuna would write on behind it."""
    if not file.exists():
        return
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with open(file, "r+b") as opened:
            opened.truncate(len(whole))
