"""A search: trials are proposed, trained together like any cells, and judged from their files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from vfcompare import failure
from vfcompare.commands.compose import cells, recompose
from vfcompare.commands.lookup import own_folders
from vfcompare.commands.naming import as_known
from vfcompare.commands.overrides import typed_twice
from vfcompare.commands.planning import must_be_there
from vfcompare.errors import Damaged, InputError, error_text, nearest, unread
from vfcompare.runs import disk, plan, run_folder, store
from vfcompare.runs.status import DONE
from vfcompare.schema.settings import PRIVATE, SEARCHPATH, key_of, value_of
from vfcompare.schema.tree import leaves
from vfcompare.schema.validate import TUNING_SEEDS
from vfcompare.statistics import ScoreScale
from vfcompare.training import devices, sweep, tasks
from vfcompare.training.cell import Cell, rehearse, saying_where
from vfcompare.tuning import ledger, space
from vfcompare.tuning.ledger import METRICS, Rated, Trial
from vfcompare.tuning.space import Knob, Values, overrides
from vfcompare.tuning.tpe import Tpe
from vfcompare.words import counted

SAMPLERS = ("random", "grid", "tpe")

SEEDS = 5
"""Of a trial, where the command line says nothing."""

TRIALS = 32
"""Of each agent on each environment, where the command line says nothing; a grid has as many as it has."""

NOTHING = "nothing"
"""Stands in an error for what is not there."""

LONGEST = 200
"""Characters of a command line's rest that an error repeats."""


@dataclass(frozen=True)
class Options:
    """How to search.

    Attributes:
      sampler: one of `SAMPLERS`.
      trials: of each agent on each environment, trial 0 being its preset.
      metric: one of `vfcompare.tuning.ledger.METRICS`.
      space: name or file; else the study's, else `matched`.
      round: trials that are proposed at once, where earlier ones decide on later ones.
      levels: of each range in a grid.
      sampler_seed: what random draws depend on.
    """

    sampler: str = "random"
    trials: int | None = None
    metric: str = "auc"
    space: str | None = None
    round: int = 8
    levels: int = 3
    sampler_seed: int = 0

    def check(self) -> None:
        """Refuse what is not allowed.

        Raises:
          InputError: that names it.
        """
        for name, allowed in {"sampler": SAMPLERS, "metric": tuple(METRICS)}.items():
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(
                    f"--{name} {value} does not exist; allowed: {', '.join(allowed)}"
                    f"{nearest(value, allowed)}"
                )
        least = {"trials": 2, "round": 1, "levels": 2, "sampler_seed": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                option = name.replace("_", "-")
                raise InputError(f"--{option} {value} is not allowed; allowed: {lowest} or more")


class Player(NamedTuple):
    """An agent on an environment.

    Attributes:
      preset: the cell of trial 0.
      knobs: what is tried of the agent.
    """

    preset: Cell
    knobs: tuple[Knob, ...]

    @property
    def name(self) -> tuple[str, str]:
        """Agent and environment."""
        return self.preset.agent, self.preset.env


class Search:
    """A search: who plays, what is tried, and by which rule.

    Attributes:
      options: how it was asked for.
      settings: overrides of the command line that trials and later runs share.
      players: every agent on every environment.
      space: what is tried.
      study: its folder.
    """

    def __init__(self, settings: Sequence[str], options: Options) -> None:
        """Compose trial 0 of every player.

        Raises:
          InputError: where agents would not have the same trials.
        """
        self.options = options
        self.settings = [text for text in settings if key_of(text) not in ("first_seed", "seeds")]
        first, seeds = (
            _whole_number(settings, "first_seed", TUNING_SEEDS),
            _whole_number(settings, "seeds", SEEDS),
        )
        asked = cells([*self.settings, f"seeds={seeds}"], sweep=True)
        told, own = asked[0].config["study"], own_folders(settings)
        self.name = str(told["name"]).removesuffix("-tune")
        if options.space or "tune" not in told:
            self.space = space.load(options.space or "matched", own)
        else:
            self.space = space.parse(f"study.tune of {told['name']}", told["tune"], own)
        self._own = [f"study.name={self.name}-tune", "+study.tuning=true"]
        self._own += [f"first_seed={first}", f"seeds={seeds}"]
        self._places = [text for text in settings if text.startswith(SEARCHPATH)]
        presets = recompose([[*_without_seeds(cell), *self._own] for cell in asked], self._places)
        self.players = [
            Player(cell, self.space.of(cell.agent, cell.config))
            for cell in {cell.id: cell for cell in presets}.values()
        ]
        self._must_be_equal()
        self.study = self.players[0].preset.study

    @property
    def agents(self) -> list[str]:
        """Who is tuned."""
        return list(dict.fromkeys(player.name[0] for player in self.players))

    @property
    def envs(self) -> list[str]:
        """On what."""
        return list(dict.fromkeys(player.name[1] for player in self.players))

    @property
    def without(self) -> dict[str, list[str]]:
        """By agent, the paths of the space that it is tuned without, where there are any."""
        presets = {player.name[0]: player.preset.config for player in self.players}
        found = {agent: self.space.without(agent, config) for agent, config in presets.items()}
        return {agent: paths for agent, paths in found.items() if paths}

    @cached_property
    def trials(self) -> int:
        """Of each player."""
        if self.options.sampler != "grid":
            return self.options.trials or TRIALS
        sizes = {player.name[0]: len(self._grid(player)) for player in self.players}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{agent} {size}" for agent, size in sizes.items())
            raise InputError(
                f"{self.space.name} as a grid gives agents different numbers of trials ({told}); allowed: a "
                "space whose knobs all agents have, such as --space common, or another --sampler"
            )
        size = next(iter(sizes.values()))
        if self.options.trials not in (None, size):
            raise InputError(
                f"--trials {self.options.trials} is not allowed: the grid and the preset are {size}; "
                f"allowed: {size}, other --levels, or --sampler random"
            )
        return size

    @cached_property
    def scales(self) -> dict[str, ScoreScale]:
        """What scores on each environment are in."""
        devices.prepare()
        found = {}
        for player in self.players:
            config = player.preset.config
            with saying_where(config):
                known = tasks.reference(config["env"])
            found[player.name[1]] = ScoreScale(known.random, known.optimal)
        return found

    def _grid(self, player: Player) -> list[Values]:
        return space.grid(player.knobs, self.options.levels)

    def _must_be_equal(self) -> None:
        names = [player.name for player in self.players]
        if len(names) != len(self.agents) * len(self.envs) or len(set(names)) != len(names):
            swept = [
                text
                for text in self.settings
                if "," in text and key_of(text) not in ("agent", "env")
            ]
            told = " ".join(swept)[:LONGEST] or "the study sweeps more"
            raise InputError(
                f"tune takes lists of agents and environments alone, each with each: {told}; allowed: "
                "one value of everything else, or a knob of the space"
            )
        for key in ("env_steps", "evaluations", "seeds"):
            values = sorted({player.preset.config[key] for player in self.players})
            if len(values) > 1:
                told = " and ".join(map(str, values))
                raise InputError(f"{key} is {told}; allowed: the same for all that are tuned")

    def check(self) -> None:
        """Compose what can be composed, and build one update of each agent, before anything is written.

        Raises:
          InputError: for the first that is not right.
        """
        if self.options.sampler == "tpe":
            Tpe.must_exist()
        ends = self._compose([list(space.corners(player.knobs)) for player in self.players])
        must_be_there(trial.cell for trial in ends)
        self._must_be_the_same()
        disk.must_be_writable(self.study, f"root={self.study.parent}")
        # Composed, and so checked, by being asked for.
        _ = self.opening
        devices.prepare()
        agents = {player.name[0]: player for player in self.players}.values()
        for player in agents:
            rehearse(player.preset.config)
        names = {player.name for player in agents}
        for trial in ends:
            if trial.name in names and any(path.endswith("_target_") for path in trial.values):
                _must_fit(trial)

    @property
    def protocol(self) -> dict[str, Any]:
        """What is decided before the first result."""
        first = self.players[0].preset
        return {
            "agents": self.agents,
            "envs": self.envs,
            "trials": self.trials,
            "sampler": self.options.sampler,
            "metric": self.options.metric,
            "sampler_seed": self.options.sampler_seed,
            "round": self.options.round if self.options.sampler == "tpe" else None,
            "levels": self.options.levels if self.options.sampler == "grid" else None,
            "seeds": first.seeds,
            "env_steps": first.config["env_steps"],
            "settings": decisive(self.settings),
            "references": {name: scale._asdict() for name, scale in self.scales.items()},
            "space": self.space.written,
        }

    def _must_be_the_same(self) -> None:
        """Refuse to mix two searches in one folder, or to take trials back."""
        file = self.study / "tune.json"
        if not file.exists():
            return
        try:
            begun = store.read_json(file)
            # An earlier version named more of them.
            begun["settings"] = decisive(begun["settings"])
            begun["space"] = space.tried(begun["space"])
            fewer = self.trials < int(begun["trials"])
        except OSError as error:
            raise unread(file, error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(
                f"{file} is damaged ({failure.describe(error)}); once it is removed the same command "
                "goes on, and keeps the trials that have ended"
            ) from error
        for key, value in (self.protocol | {"space": space.tried(self.space.written)}).items():
            if key != "trials" and begun.get(key) != value:
                path, before, now = _first_unlike(key, begun.get(key), value)
                raise InputError(
                    f"{self.study} was begun with {path}={_short(before)}, this is {path}={_short(now)}; "
                    "allowed: the former, or another study.name"
                )
        if fewer:
            raise InputError(
                f"{self.study} was begun with {begun['trials']} trials, and none is forgotten; allowed: as "
                "many or more, or another study.name"
            )

    def declare(self) -> None:
        """Write down what was decided."""
        self._must_be_the_same()
        store.write_json(self.study / "tune.json", {"schema": store.SCHEMA, **self.protocol})

    def drawn(self, player: Player) -> list[Values]:
        """What is tried where results do not decide on it."""
        if self.options.sampler == "grid":
            return self._grid(player)
        return space.drawn(player.knobs, self.trials, self.options.sampler_seed)

    def _compose(self, values: Sequence[Sequence[Values]], begin: int = 0) -> list[Trial]:
        """Trials of every player, checked.

        Args:
          values: what each player tries.
          begin: number of the first.
        """
        told = [
            (begin + index, one, [*player.preset.overrides, *overrides(one)])
            for player, mine in zip(self.players, values, strict=True)
            for index, one in enumerate(mine)
        ]
        composed = as_known(recompose([words for _, _, words in told], self._places))
        return [Trial(n, one, cell) for (n, one, _), cell in zip(told, composed, strict=True)]

    @property
    def _size(self) -> int:
        """Trials of a round: all of them, where results do not decide on later ones."""
        return min(self.options.round, self.trials) if self._asks else self.trials

    @property
    def _asks(self) -> bool:
        return self.options.sampler == "tpe"

    @cached_property
    def opening(self) -> list[Trial]:
        """The first round, which no result decides on."""
        return self._compose([self.drawn(player)[: self._size] for player in self.players])

    def run(self) -> list[Rated]:
        """Train what is open, round by round; returns what became of every trial."""
        helpers = {p.name: self._tpe(p) for p in self.players} if self._asks else {}
        trials: list[Trial] = []
        for begin in range(0, self.trials, self._size):
            numbers = range(begin, min(begin + self._size, self.trials))
            batch = self.opening
            if begin:
                batch = self._compose([one.ask(numbers) for one in helpers.values()], begin)
            trials += batch
            rated = self._train(trials, batch, numbers)
            if not all(one.over for one in rated):
                break
            for name, helper in helpers.items():
                helper.tell([one for one in rated if one.trial.name == name])
        return rated

    @cached_property
    def folder(self) -> run_folder.RunFolder:
        """Where a search keeps what it remembers; who holds it tunes."""
        return run_folder.RunFolder(self.study / "search")

    def _tpe(self, player: Player) -> Tpe:
        name = " on ".join(player.name)
        return Tpe(self.folder.path, name, player.knobs, self.options.sampler_seed)

    def _train(self, trials: list[Trial], batch: list[Trial], numbers: range) -> list[Rated]:
        """Train a round; the ledger is written before and after, and also when it is interrupted."""
        first = self.players[0].preset
        study = first.config["study"]
        plan.write(self.study, study, [trial.cell.planned() for trial in batch])
        rated = self._record(trials)
        done = {one.trial.cell.id for one in rated if one.status in DONE}
        # Settings that are the same, such as the preset's within a grid, are one cell.
        waiting = {t.cell.id: t.cell for t in batch if t.cell.id not in done}
        print(
            f"{self.study}: trials {numbers.start} to {numbers.stop - 1} of {self.trials}, "
            f"{', '.join(self.agents)} on {', '.join(self.envs)}: {counted(len(waiting), 'cell')} to train, "
            f"{len(done & {trial.cell.id for trial in batch})} done",
            flush=True,
        )
        try:
            if waiting:
                sweep.train(list(waiting.values()))
        finally:
            rated = self._record(trials)
        return rated

    def _record(self, trials: list[Trial]) -> list[Rated]:
        self.folder.claim.must_hold()
        rated = ledger.rate(self.study, trials, self.options.metric, self.scales)
        ledger.write(self.study, rated, self.options.metric)
        return rated

    def shapes(self) -> dict[str, tuple[int, ...]] | None:
        """Numbers of levels of each agent's knobs, where every combination is tried."""
        if self.options.sampler != "grid":
            return None
        number = self.options.levels
        return {p.name[0]: tuple(len(k.levels(number)) for k in p.knobs) for p in self.players}


def decisive(settings: Sequence[str]) -> list[str]:
    """Those of some settings that decide on results, such as a study, beside who is tuned and on what."""
    kept = [text for text in settings if key_of(text) not in ("agent", "env")]
    return [
        t for t in kept if key_of(t) == "study" or re.split("[./]", key_of(t))[0] not in PRIVATE
    ]


def _whole_number(settings: Sequence[str], name: str, otherwise: int) -> int:
    """A whole number of the command line."""
    typed = [text for text in settings if key_of(text) == name and "=" in text]
    if len(typed) > 1:
        raise typed_twice(typed[0], typed[1])
    if not typed:
        return otherwise
    value = value_of(typed[0])
    if not value.isdecimal():
        raise InputError(f"{name}={value} is not allowed; allowed: one whole number")
    return int(value)


def _without_seeds(cell: Cell) -> list[str]:
    return [text for text in cell.overrides if key_of(text) not in ("first_seed", "seeds")]


def _must_fit(trial: Trial) -> None:
    """Refuse a function that its place cannot call: numbers are checked as they are composed, this is not."""
    try:
        rehearse(trial.cell.config)
    except Exception as error:
        told = str(error) if isinstance(error, InputError) else error_text(error).splitlines()[0]
        raise InputError(
            f"{' '.join(overrides(trial.values))} does not fit there: {told}"
        ) from error


def _first_unlike(key: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """Where two values first differ, a setting or one of a space, and what each has there."""
    one, two = (
        {path: leaf for path, _, leaf in leaves({key: value}, lists=key == "space")}
        for value in (before, now)
    )
    for path in [*one, *two]:
        first, second = one.get(path, NOTHING), two.get(path, NOTHING)
        if first != second:
            return path, first, second
    return key, before, now


def _short(value: Any) -> str:
    return str(value)[:LONGEST]
