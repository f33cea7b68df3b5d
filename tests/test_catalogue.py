"""What can be listed: read from YAML alone, complete, and true of the parts that it describes."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from gymnasium.spaces import Box, Discrete
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.helpers import write_files
from vfcompare import (
    advantages,
    baselines,
    collect,
    estimators,
    lesions,
    returns,
    scales,
    surrogates,
    targets,
)
from vfcompare.baselines import Sample
from vfcompare.commands import catalogue, listing
from vfcompare.errors import InputError
from vfcompare.main import main
from vfcompare.schema import needs, validate
from vfcompare.types import Collector, Rollout, Spec
from vfcompare.valuation import Estimator, Lesion

SPEC = Spec(
    Box(0, 1, (2,)), Discrete(2), (4, 8, 16), whole_episodes=True, features=lambda params, obs: obs
)
CONF = Path(__file__).resolve().parent.parent / "conf"
NOTHING = (
    *("baselines.none", "baselines.batch_mean", "scales.unscaled", "scales.batch_std"),
    *("scales.paid_share", "scales.step_whitened", "scales.episode_whitened"),
    *("advantages.whitened_gae", "targets.elapsed", "estimators.value_based"),
    *("estimators.off_policy", "collect.episodes", "collect.fragments", "returns.reward_to_go"),
    *("returns.outcome", "advantages.gae", "targets.lambda_return", "advantages.n_step"),
    *("advantages.vtrace", "returns.success", "returns.remaining"),
)
"""Functions that need nothing of `vfcompare.schema.needs`."""

HELPERS = {
    "baselines.first_scored",
    "collect.drawn_again",
    "collect.judged",
    "estimators.with_critic",
}
"""What others are made of, and no configuration names."""


@pytest.fixture(scope="module")
def presets():
    return catalogue.presets()


@pytest.fixture(scope="module")
def listed():
    return listing.show("agents", width=80)


def composed(*overrides):
    """The resolved agent as Hydra's public entry composes it."""
    GlobalHydra.instance().clear()
    with initialize_config_module("vfcompare.conf", version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(overrides)).agent, resolve=True)


def test_every_preset_is_listed_exactly_once(listed):
    names = [
        line.strip() for line in listed.splitlines() if line.startswith("  ") and line[2] != " "
    ]
    names = [name for name in names if " " not in name]
    assert sorted(names) == sorted(path.stem for path in (CONF / "agent").glob("*.yaml"))


# Those that override a part of a part, replace the recipe, or build on another preset.
@pytest.mark.parametrize(
    "name", ["rloo", "evpo", "asyppo", "vapo", "a2c_sb3", "dapo", "rloo_elapsed"]
)
def test_a_preset_is_composed_as_hydra_composes_it(presets, name):
    assert presets[name].config == composed(f"agent={name}")


def test_every_preset_has_a_formula_and_a_heading(presets):
    assert [name for name, preset in presets.items() if not preset.formula] == []
    assert {catalogue.heading(preset) for preset in presets.values()} == set(catalogue.HEADINGS)


@pytest.mark.parametrize(
    ("name", "heading"),
    [
        ("rloo", "Outcome-only"),
        ("dapo", "Outcome-only"),
        ("spo", "Outcome-only"),
        ("ppo", "With a learned critic"),
        ("poise", "With a learned critic"),
        ("vine", "Simulated"),
        ("remax", "Simulated"),
        ("oracle_v", "Privileged"),
        ("mixed", "Privileged"),
        ("ppo_cleanrl", "Published recipes"),
        ("rloo_idle", "Controls"),
    ],
)
def test_headings_follow_from_the_configuration(presets, name, heading):
    assert catalogue.heading(presets[name]) == heading


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("reinforce", {"whole episodes"}),
        ("rloo", {"groups", "resets", "whole episodes"}),
        ("ppo", {"critic"}),
        ("remax", {"resets", "extra episodes", "whole episodes"}),
        ("vine", {"resets", "extra episodes", "whole episodes"}),
        ("oracle_v", {"exact values", "whole episodes"}),
        ("dapo", {"groups", "resets", "extra episodes", "whole episodes"}),
        ("spo", {"memory", "whole episodes"}),
        ("poise", {"groups", "resets", "critic", "whole episodes"}),
    ],
)
def test_needs_of_known_agents(presets, name, needs):
    assert set(catalogue.needs(presets[name].config)) == needs


def test_rollouts_with_starts_of_their_own_need_no_resets(presets):
    config = presets["rloo"].config
    config = {**config, "collector": {**config["collector"], "start": "independent"}}
    assert "resets" not in catalogue.needs(config)


@pytest.mark.parametrize("name", [path.stem for path in (CONF / "agent").glob("*.yaml")])
def test_needs_agree_with_the_estimator_that_is_built(presets, name):
    config = presets[name].config
    needs = catalogue.needs(config)
    part = instantiate(config["estimator"])
    estimator = part(spec=SPEC)
    assert ("critic" in needs) == bool(estimator.critics)
    assert ("exact values" in needs) == estimator.privileged
    simulates = "charged(" in inspect.getsource(part.func)
    assert simulates == (estimator.needs_state and not estimator.privileged)
    collects = config["collector"]["_target_"].endswith(".informative")
    assert ("extra episodes" in needs) == (simulates or collects)
    if "whole episodes" in needs:
        assert not config["collector"]["_target_"].endswith(".fragments")


def functions(module):
    """Public functions that a module defines itself, with their signatures."""
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if function.__module__ == module.__name__ and not name.startswith("_"):
            yield name, inspect.signature(function)


def advises(signature):
    """Whether a function is a baseline, a scale, or an advantage or target made of values."""
    kinds = [parameter.annotation for parameter in signature.parameters.values()]
    return Sample in kinds or (
        kinds[:1] == [Rollout] and list(signature.parameters)[1:2] == ["value"]
    )


def makes(kind):
    """Whether a function makes one of these."""
    return lambda signature: signature.return_annotation is kind


@pytest.mark.parametrize(
    ("module", "chosen"),
    [
        (baselines, advises),
        (scales, advises),
        (advantages, advises),
        (targets, advises),
        (estimators, makes(Estimator)),
        (collect, makes(Collector)),
    ],
    ids=["baselines", "scales", "advantages", "targets", "estimators", "collect"],
)
def test_what_each_function_needs_is_known(module, chosen):
    place = module.__name__.removeprefix("vfcompare.")
    told = {*NOTHING, *(part for parts in needs.NEEDED_BY.values() for part in parts)}
    found = {f"{place}.{name}" for name, sign in functions(module) if chosen(sign)}
    assert found
    assert found - told - HELPERS == set(), (
        "say what it needs in vfcompare.schema.needs, or above that it needs nothing"
    )


def test_every_function_with_needs_exists():
    modules = [
        baselines,
        scales,
        advantages,
        targets,
        returns,
        estimators,
        collect,
        lesions,
        surrogates,
    ]
    known = {m.__name__.removeprefix("vfcompare."): m for m in modules}
    parts = {
        *NOTHING,
        *(part for parts in needs.NEEDED_BY.values() for part in parts),
    }
    for module, name in (part.split(".") for part in parts):
        assert hasattr(known[module], name), (module, name)
    needy = {part for parts in needs.NEEDED_BY.values() for part in parts}
    assert needy & set(NOTHING) == set()
    assert set(needs.NEEDED_BY) == set(needs.NEEDS) - {"critic"}


@pytest.mark.parametrize("part", needs.NEEDED_BY["whole episodes"])
def test_fragments_are_refused_to_whatever_needs_whole_episodes(part):
    agent = composed("agent=ppo", "collector@agent.collector=fragments")
    pieces, estimator = agent["collector"], agent["estimator"]
    assert not list(validate._fragments(agent, pieces, estimator, 100_000))
    module, name = part.split(".")
    told = {"_target_": f"vfcompare.{part}"}
    if module == "estimators":
        estimator = estimator | told
    elif module in ("advantages", "targets"):
        estimator = estimator | {module.removesuffix("s"): told}
    elif module == "surrogates":
        agent = agent | {"surrogate": told}
    else:
        agent = agent | {"collector": {"prompts": 4, "group": 8} | told}
    (problem,) = validate._fragments(agent, pieces, estimator, 100_000)
    assert f" {name} needs whole episodes " in problem


@pytest.mark.parametrize(
    "name", [p.split(".")[1] for p in needs.NEEDED_BY["whole episodes"] if "estimators." in p]
)
def test_estimators_refuse_fragments_themselves(name):
    make = getattr(estimators, name)
    given = dict.fromkeys(inspect.signature(make).parameters)
    with pytest.raises(ValueError, match="need collector=episodes"):
        make(**given | {"spec": SPEC._replace(whole_episodes=False)})


@pytest.mark.parametrize("other", ["remax", "spo"])
def test_a_gate_has_no_room_for_what_remembers_or_simulates(other):
    otherwise = composed(f"agent={other}")["estimator"]
    made = instantiate(composed("agent=evpo")["estimator"] | {"otherwise": otherwise})
    with pytest.raises(ValueError, match=r"estimator\.otherwise .*such as batch_mean"):
        made(spec=SPEC)


def test_an_estimator_of_the_users_own_says_itself_what_it_needs():
    agent = composed("agent=ppo", "collector@agent.collector=fragments")
    own = agent["estimator"] | {"_target_": "mine.estimators.gated"}
    assert not list(validate._fragments(agent, agent["collector"], own, 100_000))


def test_lesions_that_need_the_truth_are_known():
    found = set()
    for name, signature in functions(lesions):
        if signature.return_annotation is Lesion and name != "of_values":
            needed = {k: 1 for k, p in signature.parameters.items() if p.default is p.empty}
            if getattr(lesions, name)(**needed).privileged:
                found.add(f"lesions.{name}")
    assert found == {part for part in needs.NEEDED_BY["exact values"] if "lesions" in part}


def test_the_nearest_differs_in_the_fewest_leaves(presets):
    near = catalogue.neighbours(presets)
    # One leaf each, the name of the baseline or of the scale.
    assert near["dr_grpo"] == ["maxrl", "opo", "reinforce", "reinforce_mean", "rloo"]
    assert listing.difference_clause(presets["dr_grpo"], presets["rloo"]) == (
        "differs in estimator.advantage.baseline (group_mean instead of leave_one_out)"
    )
    # Four leaves: the collector, how often it tries, its discount, the clip; what it wraps is the same.
    flat = [catalogue.flatten(presets[name].config) for name in ("dapo", "grpo")]
    assert catalogue.distance(*flat) == 4
    assert near["dapo"] == ["grpo"]
    assert near["asyppo"] == ["ppo"]
    assert near["ppo_lambda1"] == ["reinforce_v"]
    assert listing.difference_clause(presets["ppo_lambda1"], presets["reinforce_v"]) == (
        "the same under another name"
    )


def test_differences_are_shortened(presets):
    words = listing.difference_clause(presets["ppo_cleanrl"], presets["ppo"])
    found = catalogue.differences(presets["ppo_cleanrl"], presets["ppo"])
    assert words.endswith(f", +{len(found) - listing.SHOWN} more")


def test_comments_and_questions_are_read():
    assert catalogue.describe("# One\n# and two.\na: 1\n# not this") == "One and two."
    assert catalogue.describe("# @package _global_\n# This.\na: 1") == "This."
    assert catalogue.describe("# @package _global_\nstudy:\n  question: What?") == "What?"
    assert catalogue.describe("a: 1") == ""


@pytest.mark.parametrize("group", catalogue.groups())
def test_every_file_says_what_it_is(group):
    assert group in catalogue.GROUPS, "say what it is and how one is chosen"
    for name, file in catalogue.files(group).items():
        own = "/estimator@estimator" in file.read_text() and group == "agent"
        assert catalogue.describe(file.read_text("utf-8")) or own, name
    if group != "agent":
        shown = listing.show(listing.plural(group), width=80)
        assert all(f"  {name} " in shown for name in catalogue.files(group))


@pytest.mark.parametrize("group", [group for group in catalogue.GROUPS if group != "study"])
def test_the_words_that_choose_a_part_do_choose_it(group):
    name = next(iter(catalogue.files(group)))
    for use in catalogue.GROUPS[group][1:]:
        assert composed(*use.replace("NAME", name).split())


def test_nothing_is_wider_than_the_terminal(monkeypatch, presets, listed):
    monkeypatch.setattr(listing, "presets", lambda own, broken: presets)
    monkeypatch.setenv("COLUMNS", "80")
    pages = [listing.show(), listing.show("agents")]
    assert pages[1] == listed
    pages += [
        listing.show(listing.plural(group)) for group in catalogue.groups() if group != "agent"
    ]
    pages += [listing.show("agent", name) for name in ("ppo", "asyppo", "evpo", "dapo")]
    assert [line for page in pages for line in page.splitlines() if len(line) > 80] == []
    monkeypatch.setenv("COLUMNS", "140")
    assert max(map(len, listing.show("envs").splitlines())) > 80


def test_one_preset_in_full(capsys):
    assert main(["list", "agents", "ppo"]) == 0
    page = capsys.readouterr().out
    assert "conf/agent/ppo.yaml" in page
    assert "GAE (arXiv:1506.02438)" in page
    assert "the same as agent.network" in page
    assert "clipped epsilon=0.2" in page


def test_a_file_is_shown_with_those_that_it_begins_with():
    shown = listing.show("envs", "addition_scratch")
    for name in ("addition_scratch", "addition", "base/tokens"):
        assert (CONF / "env" / f"{name}.yaml").read_text().strip() in shown
    assert "It begins with addition:" in shown


def test_a_part_of_the_users_own_is_shown_with_ours_that_it_begins_with(own, capsys):
    assert main(["list", "estimators", "half", own]) == 0
    assert "It begins with monte_carlo:" in capsys.readouterr().out


def test_one_file_of_another_group_is_shown_as_it_is():
    assert (CONF / "env" / "maze.yaml").read_text().strip() in listing.show("envs", "maze")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["agnets"], "did you mean 'agents'?"),
        (["agents", "pp0"], "did you mean 'ppo'?"),
        (["envs", "mase"], "did you mean 'maze'?"),
    ],
)
def test_what_does_not_exist_is_named_with_the_nearest(words, hint, capsys):
    assert main(["list", *words]) == 2
    said = capsys.readouterr().err
    assert words[-1] in said
    assert "allowed:" in said
    assert hint in said
    with pytest.raises(InputError):
        listing.show(*words)


def test_listing_imports_no_jax():
    code = (
        "import sys; from vfcompare.main import main; main(['list', 'agents']);"
        "sys.exit('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_reader_may_stop_early():
    command = [sys.executable, "-m", "vfcompare", "list", "envs"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_parts_of_the_users_own_are_listed_beside_ours(own, capsys):
    folder = own.partition("file://")[2].rstrip("]")
    shown = []
    for words in (["agents"], ["agents", "half"], ["launchers"], ["estimators", "half"], []):
        refused = words == ["launchers"]
        assert main(["list", *words, own]) == (2 if refused else 0)
        shown.append(capsys.readouterr().out)
    everything, one, _, part, overview = shown
    assert "  half\n" in everything
    assert "  rloo\n" in everything
    assert one.startswith(f"half    {folder}/agent/half.yaml")
    assert "NEAREST: " in one
    assert part.startswith(f"half    {folder}/estimator/half.yaml")
    assert f"{'  agents':<14}{len(catalogue.files('agent')) + 1:>3}  " in overview
    assert main(["list", "agents", "half"]) == 2
    assert main(["list", "agents", "hydra.searchpath=[file:///nowhere]"]) == 2
    assert "file:///nowhere is no folder" in capsys.readouterr().err


def test_a_part_of_ones_own_that_is_not_found_is_looked_for_with_a_hint(own, capsys):
    folder = own.partition("file://")[2].rstrip("]")
    above = f"hydra.searchpath=[file://{Path(folder).parent}]"
    meant = f"holds none of our groups, such as agent/ or env/; did you mean file://{folder}?"
    for words, code, told in (
        (
            ["list", "agents", "half"],
            2,
            "or one of your own with 'hydra.searchpath=[file:///FOLDER]'",
        ),
        (["list", "agents", "half", above], 2, meant),
        (["list", "agents", above], 0, meant),
        (["plan", "agent=half", "env=lock", above], 2, meant),
        (["plan", "agent=hlf", "env=lock", own], 2, "did you mean 'half'?"),
    ):
        assert main(words) == code
        said = capsys.readouterr().err
        assert told in said
        assert said.count("\n") == 1


def test_a_part_whose_function_was_replaced_is_shown_as_what_is_called(tmp_path, capsys):
    text = "# R - mine.\ndefaults: [gae]\nadvantage: {_target_: myparts.my_gae}\n"
    mine = "defaults: [/recipe@_here_: matched, /estimator@estimator: mine]"
    other = "defaults: [/recipe@_here_: matched, /estimator@estimator: gae]\n"
    other += "estimator: {_target_: myparts.otherwise}"
    files = {"estimator/mine.yaml": text, "agent/mine.yaml": mine, "agent/other.yaml": other}
    write_files(tmp_path, files)
    assert main(["list", "agents", "mine", f"hydra.searchpath=[file://{tmp_path}]"]) == 0
    shown = capsys.readouterr().out
    assert "estimator.advantage: my_gae instead of gae" in shown
    assert "\n  estimator.advantage         my_gae lambda_=0.95\n" in shown
    assert "\n  estimator.target            lambda_return " in shown
    # The formula of a file is that of its own function.
    preset = catalogue.presets([tmp_path])["other"]
    assert (preset.formula, ["estimator", "otherwise"] in list(listing.parts(preset))) == ("", True)


def test_files_of_the_users_own_are_listed_whatever_is_in_them(tmp_path, capsys):
    for name, text in {
        "study/mine": "env_steps: 3\n",
        "study/odd": "study: {contrast: 5, figures: x, minutes: [1]}\n",
        "study/endless": "study: {minutes: .inf}\n",
        "env/torn": "a: [\n",
        "env/one": "defaults:\n  - other\n",
        "env/other": "defaults:\n  - one\n",
    }.items():
        file = tmp_path / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    own = f"hydra.searchpath=[file://{tmp_path}]"
    assert main(["list", "studies", own]) == 0
    assert {"mine", "odd", "endless", "compare"} <= set(capsys.readouterr().out.split())
    assert main(["list", "envs", own]) == 0
    assert "cannot be read: while parsing" in " ".join(capsys.readouterr().out.split())
    assert main(["list", "envs", "one", own]) == 0
    assert capsys.readouterr().out.count("It begins with") == 1


def test_the_readme_counts_what_there_is():
    agents, envs, studies = (len(catalogue.files(group)) for group in ("agent", "env", "study"))
    readme = (CONF.parent / "README.md").read_text()
    assert f"{agents} agents, {envs} environments and {studies} studies" in " ".join(readme.split())
