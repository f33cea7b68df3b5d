"""What fits no agent, and no study, is refused by name before anything is written."""

import pytest

from vfcompare.commands.compose import cells
from vfcompare.errors import InputError
from vfcompare.training.cell import rehearse

REFUSED = {
    "agent=null": "agent=null is not allowed; allowed: .*ppo",
    "study=null": "study=null is not allowed; allowed: .*compare",
    "agent.batching=null": "agent.batching=null is not allowed",
    "agent.collector=null": "agent.collector=null is not allowed",
    "env_steps=3000000000": "env_steps=3000000000 is not allowed; allowed: .* to 2,000,000,000",
    "agent=ppo_cleanrl agent.collector.length=null": "agent.collector.length=None is not allowed",
    "study.contrast=[rlo,ppo]": "study.contrast: rlo is no agent; .*did you mean 'rloo'",
    "+study=compare,sums": "a sweep is of one study",
    "study.name=a,b": "a sweep is of one study",
    "root=a,b": "a sweep is of one study, in one place",
    "agent=ppo collector@agent.collector=fragments critic@agent.estimator.critic=hl_gauss": (
        "running_range is not allowed with fragments"
    ),
    "agent=rloo +lab@agent.lab=standard": "agent.lab.fade=1.0 is not .*agent.gamma=0.99: .*allowed: null",
    "agent=ppo +lab@agent.lab=standard agent.lab.fade=null": "agent.lab.fade=None .*allowed: 1",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_refused_by_name(words):
    with pytest.raises(InputError, match=f"(?s){REFUSED[words]}"):
        cells(words.split(), sweep=True)


UNFIT = {
    "agent=vine env=maze_partial network@agent.network=gru": "a policy without a memory",
    "agent=vtrace env=frozen_lake collector@agent.collector=fragments "
    "lesion@agent.estimator.critic.lesion=another": "known by their time in the episode",
}


@pytest.mark.parametrize("words", UNFIT)
def test_parts_that_do_not_fit_each_other_are_refused(words):
    (cell,) = cells(words.split(), sweep=False)
    with pytest.raises(InputError, match=UNFIT[words]):
        rehearse(cell.config)


@pytest.mark.parametrize("contrast", ["[critic,outcome-only]", "[[ppo,a2c],rloo]", "null"])
def test_contrasts_of_agents_and_of_families_are_allowed(contrast):
    assert cells(["agent=rloo,ppo", f"study.contrast={contrast}"], sweep=True)
