"""How arms look everywhere: colours that the colour-blind can tell apart, and lines and marks for grey."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vfcompare.report.analysis import Arm, Results

INK, MUTED, FAINT, PAPER = "#1b1f24", "#5d6670", "#c9ced4", "#ffffff"
CRITIC = ("#0072b2", "#009e73", "#56b4e9", "#0a2f5c")
OUTCOME = ("#d55e00", "#e69f00", "#cc79a7", "#6b2400")
LETTERS = {
    "#009e73": "#00795a",
    "#56b4e9": "#1f78ad",
    "#d55e00": "#b34f00",
    "#e69f00": "#8a6200",
    "#cc79a7": "#a8507f",
}
"""Colours too light for letters, and what letters have instead: a contrast with paper of 4.5 or more."""
KNOWN = {
    "ppo": 0,
    "a2c": 1,
    "reinforce_v": 2,
    "grpo": 0,
    "rloo": 2,
    "reinforce": 1,
}
CRITIC_LINES: tuple[Any, ...] = (
    "-",
    (0, (7, 1.5)),
    (0, (7, 1.5, 1.5, 1.5)),
    (0, (7, 1.5, 1.5, 1.5, 1.5, 1.5)),
)
OUTCOME_LINES: tuple[Any, ...] = (
    (0, (3, 1.5)),
    (0, (1, 1)),
    (0, (3, 1.5, 1, 1.5)),
    (0, (3, 1.5, 1, 1.5, 1, 1.5)),
)
CRITIC_MARKERS, OUTCOME_MARKERS = "osDp", "^v<P"
MARKS = dict(zip(CRITIC_MARKERS + OUTCOME_MARKERS, "●■◆⬟▲▼◀✚", strict=True))
"""The markers as letters, for labels that are told apart in grey."""


@dataclass(frozen=True)
class Look:
    """How an arm is drawn everywhere: colour, and line and marker for readers without colour."""

    color: str
    line: Any
    marker: str
    filled: bool = True


def looks(arms: Sequence[Arm]) -> dict[str, Look]:
    """One look per arm: blues and greens learn a critic, warm colours do not.

    The fifth to eighth of a family have its colours again, each with another line and another marker.
    """
    result: dict[str, Look] = {}
    for critic in (False, True):
        family = [arm for arm in arms if arm.critic == critic]
        taken: set[int] = set()
        for arm in sorted(family, key=lambda arm: arm.key not in KNOWN):
            wish = KNOWN.get(arm.preset, len(taken))
            slot = wish if wish not in taken else min(set(range(len(family) + 3)) - taken)
            taken.add(slot)
            result[arm.name] = _look(critic, slot)
    return result


def _look(critic: bool, slot: int) -> Look:
    colors = CRITIC if critic else OUTCOME
    lines = CRITIC_LINES if critic else OUTCOME_LINES
    markers = CRITIC_MARKERS if critic else OUTCOME_MARKERS
    turn = slot // len(colors)
    line, marker = (slot + 2 * turn) % len(lines), (slot + turn) % len(markers)
    return Look(colors[slot % len(colors)], lines[line], markers[marker])


def appearance(results: Results) -> dict[str, Look]:
    """The look of every arm: another setting of an agent is hollow, other agents have their family's."""
    own = looks(results.shown.lines)
    agents = {arm.agent: replace(own[arm.name], filled=False) for arm in results.shown.lines}
    picked = agents if results.shown.picked else {}
    others = {arm.name: picked.get(arm.agent) or _look(arm.critic, 0) for arm in results.arms}
    return others | own


def lettering(color: str) -> str:
    """A colour as letters have it."""
    return LETTERS.get(color, color)
