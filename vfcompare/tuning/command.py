"""`vfcompare tune`: search, and tell what was found."""

import sys
from collections.abc import Sequence

from vfcompare.commands.overrides import refuse_launchers
from vfcompare.errors import InputError
from vfcompare.runs import claim
from vfcompare.tuning.ledger import Rated
from vfcompare.tuning.result import show
from vfcompare.tuning.search import Options, Search
from vfcompare.words import counted


def tune(settings: Sequence[str], options: Options) -> bool:
    """Search as the options say, go on where it was stopped, and print what was found.

    Args:
      settings: overrides, as typed; `agent` and `env` may be lists.
      options: how to search.

    Returns:
      Whether every trial has ended, and none with an exception.

    Raises:
      InputError: for what is wrong; nothing is written then.
    """
    options.check()
    refuse_launchers(
        settings,
        "without it, in this process; or, once it has begun, vfcompare submit runs/NAME-tune, and when that "
        "has ended the same command again",
    )
    search = Search(settings, options)
    search.check()
    for agent, paths in search.without.items():
        print(f"agent={agent} is tuned without {', '.join(paths)}, which it does not have")
    folder = search.folder
    with folder.hold() as mine:
        if not mine:
            told = f"{search.study}: {folder.claim.owner} is tuning it"
            raise InputError(f"{told}; allowed: when that has ended")
        with claim.kept([folder.claim]):
            search.declare()
            rated = search.run()
    left = [one for one in rated if not one.over]
    if left or len(rated) < len(search.players) * search.trials:
        told = _open(left[0]) if left else "trials are missing"
        print(
            f"vfcompare: {search.study}: {counted(len(left), 'trial')} not ended ({told}); `vfcompare status "
            f"{search.study}` says more, the same command continues",
            file=sys.stderr,
        )
        return False
    show(search, rated)
    return not any(one.status in ("crashed", "out of memory") for one in rated)


def _open(rated: Rated) -> str:
    """Why a trial has not ended."""
    machine = f" by the machine, not by its settings: {rated.note}" if rated.again else ""
    return f"{rated.trial.cell.id} is {rated.status}{machine}"
