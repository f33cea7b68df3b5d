"""A study under other names: what a reader sees, and that nothing else changes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests import report_study
from tests.report_study import AGENTS, ENVS, write_study
from tests.test_report_oracle import write_study as write_horizon
from tests.test_report_tuned import RATE, cell
from vfcompare import report
from vfcompare.errors import InputError
from vfcompare.main import main
from vfcompare.report import oracle
from vfcompare.report.analysis import Results, analyse
from vfcompare.report.figures import sensitivity
from vfcompare.report.figures.looks import lettering
from vfcompare.report.figures.looks import looks as looks_of
from vfcompare.report.oracle.findings import measure
from vfcompare.report.prose.method import method
from vfcompare.report.prose.verdicts import verdicts
from vfcompare.report.reading.data import Study
from vfcompare.report.reading.labels import label
from vfcompare.report.reading.renaming import read_names, renamed

TURNED = {name: name[::-1] for name in (*AGENTS, "cartpole", "maze")}
"""As long as the names, so that what is cut for want of room is cut in the same place."""

TWO = {name: ENVS[name] for name in ("cartpole", "maze")}


_quick = report_study.quick(100, 500, svg=True)


def turned_back(text: str) -> str:
    """The text with the names that the files have, and without what says so."""
    for name, shown in TURNED.items():
        text = re.sub(rf"\b{shown}\b", name, text)
    return re.sub(r'(?m)^(- \*\*Names|  "Names").*\n', "", text)


def written(folder: Path) -> dict[str, str]:
    """The files of a report that are text; where letters stand in a figure depends on their widths."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix in {".md", ".csv", ".tex", ".json"}:
            found[str(file.relative_to(folder))] = file.read_text()
    return found


def test_a_report_under_other_names_is_the_same_report(tmp_path: Path) -> None:
    study = write_study(tmp_path, envs=TWO, seeds=5)
    names = tmp_path / "names.yaml"
    names.write_text("\n".join(f"{name}: {shown}" for name, shown in TURNED.items()))
    plain = written(report.write(study, tmp_path / "plain").parent)
    other = written(report.write(study, tmp_path / "other", names=names).parent)
    assert other.keys() == plain.keys()
    assert {name: turned_back(text) for name, text in other.items()} == {
        name: turned_back(text) for name, text in plain.items()
    }
    # Cells and commands are what they are; all else that is printed is called as was asked.
    drawn = [file.read_text() for file in (tmp_path / "other").rglob("*.svg")]
    for text in (re.sub(r".*(-1a2b3c4d|\*\*Names).*", "", other["report.md"]), *drawn):
        assert not [name for name in TURNED if re.search(rf"\b{name}\b", text)]
    assert all(shown in other["report.md"] for shown in TURNED.values())


def test_numbers_and_colours_are_those_of_the_files(tmp_path: Path) -> None:
    study = report.load(write_study(tmp_path, envs=TWO, seeds=5))
    shown = {"ppo": "PPO (λ = 0.95)", "rloo": "RLOO", "maze": "Mazes"}
    before, after = analyse(study), analyse(renamed(study, shown))
    look, other = looks_of(before.shown.lines), looks_of(after.shown.lines)
    assert other == {shown.get(name, name): one for name, one in look.items()}
    assert after.summary["auc", "Mazes", "RLOO"] == before.summary["auc", "maze", "rloo"]
    assert [c.interval for c in after.pairs["auc"]] == [c.interval for c in before.pairs["auc"]]
    assert after.family["auc"].interval == before.family["auc"].interval
    told = dict(method(after))["Names"]
    assert told.startswith("In the files of the study RLOO is rloo, PPO (λ = 0.95) is ppo")
    assert "Names" not in dict(method(before))


def test_agents_with_a_colour_of_their_own_have_it_before_others_choose(tmp_path: Path) -> None:
    agents = {"reinforce_mean": 1.0, "rloo": 1.1, "grpo": 1.2, "ppo": 1.5}
    study = report.load(write_study(tmp_path, agents=agents, envs={"maze": ENVS["maze"]}, seeds=3))
    before, after = analyse(study), analyse(renamed(study, {n: n.upper() for n in agents}))
    looks = looks_of(before.shown.lines)
    turned = looks_of(after.shown.lines)
    assert list(turned.items()) == [(name.upper(), look) for name, look in looks.items()]


def test_an_agent_has_one_colour_in_all_figures_under_any_name() -> None:
    like = {"mine": "rloo", "rloo": "rloo", "ppo": "ppo"}
    cells = [
        replace(cell(twin, env, rate, config={}), agent=agent)
        for agent, twin in like.items()
        for env in ("lock", "delayed")
        for rate in ("0.1", "0.2")
    ]
    study = Study("mine", "", True, "", tuple(label(cells)[0]), ())
    shown = {"ppo": "PPO", "rloo": "RLOO"}
    found = []
    for names in ({}, shown):
        results = analyse(renamed(study, names))
        looks = looks_of(results.shown.lines)
        best = {
            a: max(g, key=results.standing.__getitem__) for a, g in arms_by_agent(results).items()
        }
        drawn = {picture.id: picture.draw() for picture in sensitivity.pictures(results)}
        rows = drawn["settings"].axes[0].get_yticklabels()
        colours = {row.get_text(): row.get_color() for row in rows}
        assert colours == {a: lettering(looks[arm].color) for a, arm in best.items()}
        plane = drawn["sensitivity"].axes[0]
        assert {t.get_text(): t.get_color() for t in plane.texts} == colours
        (key,) = drawn["knobs"].legends
        lines = zip(key.get_texts(), key.get_lines(), strict=True)
        told = {text.get_text(): lettering(str(line.get_color())) for text, line in lines}
        assert told == colours
        found.append(colours)
    assert found[1] == {shown.get(agent, agent): colour for agent, colour in found[0].items()}


def arms_by_agent(results: Results) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for arm in results.arms:
        found.setdefault(arm.agent, []).append(arm.name)
    return found


def test_the_lab_has_its_colours_under_any_name(tmp_path: Path) -> None:
    study = report.load(write_horizon(tmp_path))
    cells = [replace(one, agent=one.agent.replace("reinforce", "mine")) for one in study.cells]
    cells = [replace(one, settings={**one.settings, RATE: one.agent}) for one in cells]
    study = replace(study, cells=tuple(label(cells)[0]))
    before = looks_of(oracle.find(study).arms)
    after = looks_of(oracle.find(renamed(study, {"oracle_v": "V"})).arms)
    assert after == {{"oracle_v": "V"}.get(name, name): look for name, look in before.items()}


def test_the_question_is_about_the_agents_that_the_plan_names(tmp_path: Path) -> None:
    decided = {"metric": "auc", "margin": 0.05, "contrast": [["ppo"], ["rloo", "grpo"]]}
    study = report.load(write_study(tmp_path, seeds=5, decided=decided))
    results = analyse(renamed(study, {"ppo": "PPO", "rloo": "grpo2"}))
    assert results.sides.names == ("PPO", "grpo2 + grpo")
    assert results.sides.keys == ("ppo", "rloo + grpo")
    assert [arm.name for arm in results.sides.first] == ["PPO"]
    assert results.family["auc"].interval == analyse(study).family["auc"].interval
    assert any("PPO against grpo2 + grpo" in sentence.text for sentence in verdicts(results))


def test_what_must_be_typed_keeps_its_name(tmp_path: Path) -> None:
    study = report.load(write_study(tmp_path, seeds=5, reference=False))
    results = analyse(renamed(study, {"maze": "Mazes"}))
    text = " ".join(sentence.text for sentence in verdicts(results))
    assert "maze: [RANDOM, OPTIMAL]" in text
    assert "known for cartpole, Mazes and chain" in text


def settings(study: Path, **values: str) -> Path:
    """The study, whose agents `ppo` have these settings."""
    plan = json.loads((study / "plan.json").read_text())
    for one in plan["cells"]:
        if one["agent"] == "ppo":
            one["settings"] = values
            info = json.loads((study / one["id"] / "run.json").read_text())
            (study / one["id"] / "run.json").write_text(json.dumps({**info, "settings": values}))
    (study / "plan.json").write_text(json.dumps(plan))
    return study


def test_an_agent_with_its_settings_has_a_name_as_a_whole(tmp_path: Path) -> None:
    study = report.load(settings(write_study(tmp_path, seeds=5), **{"agent.gamma": "0.9"}))
    arms = [arm.name for arm in analyse(renamed(study, {"ppo": "PPO"})).arms]
    assert "PPO gamma=0.9" in arms
    whole = {"ppo": "PPO", "ppo gamma=0.9": "PPO, short-sighted"}
    results = analyse(renamed(study, whole))
    (arm,) = (arm for arm in results.arms if arm.preset == "ppo")
    assert (arm.name, arm.key, arm.agent) == ("PPO, short-sighted", "ppo gamma=0.9", "PPO")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"poo": "PPO"}, r"no agent or environment 'poo'; allowed: .*grpo.*did you mean 'ppo'"),
        ({"ppo": "A", "a2c": "A"}, "a2c and ppo would both be called 'A'"),
        ({"ppo": "grpo"}, "grpo and ppo would both be called 'grpo'"),
    ],
)
def test_names_that_would_mislead_are_refused(
    tmp_path: Path, names: dict[str, str], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        renamed(report.load(write_study(tmp_path, seeds=3)), names)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- ppo", "not a mapping"),
        ("ppo: [PPO]", "ppo=.'PPO'.; allowed: what ppo is to be called"),
        ("ppo: ''", "ppo=''; allowed"),
        ("a: &x b\nc: *x", "not plain YAML"),
        ("", "not a mapping"),
        (
            "ppo: A\nrloo: B\nppo: C",
            "ppo stands there twice, in line 3 again; allowed: a YAML file",
        ),
    ],
)
def test_a_file_without_names_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "names.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=told):
        read_names(file)
    with pytest.raises(InputError, match=r"nowhere\.yaml: No such file"):
        read_names(tmp_path / "nowhere.yaml")


def test_names_are_made_safe(tmp_path: Path) -> None:
    file = tmp_path / "names.yaml"
    file.write_text('ppo: "a\\u202eb\\n<b>"')
    assert read_names(file) == {"ppo": "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}<b>"}


def test_what_is_held_against_the_truth_keeps_its_numbers(tmp_path: Path) -> None:
    study = report.load(write_horizon(tmp_path))
    shown = {cell.agent: cell.agent.upper() for cell in study.cells} | {"lock": "Chain"}
    before, after = oracle.find(study), oracle.find(renamed(study, shown))
    pairs = list(zip(before.subjects, after.subjects, strict=True))
    assert pairs
    for one, other in pairs:
        assert other.name == one.name.replace(one.agent, one.agent.upper()).replace("lock", "Chain")
        assert before.relative(one) == after.relative(other)
        assert measure(one, "gradient_bias") == measure(other, "gradient_bias")
    assert [arm.preset for arm in after.arms] == [arm.preset for arm in before.arms]


def test_the_command_line_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write_study(tmp_path, envs=TWO, seeds=10)
    names = tmp_path / "names.yaml"
    names.write_text("ppo: PPO")
    command = ["figure", str(study), "pairs", "--out", str(tmp_path / "paper"), "--names"]
    assert main([*command, str(names)]) == 0
    assert "PPO" in (tmp_path / "paper" / "pairs.svg").read_text()
    assert "PPO" in (tmp_path / "paper" / "pairs-caption.tex").read_text()
    names.write_text("ppo: PPO\npppo: PPO")
    assert main([*command, str(names)]) == 0
    told = "the study has no agent or environment 'pppo', which is passed over; did you mean 'ppo'?"
    assert told in capsys.readouterr().err
    names.write_text("pppo: PPO")
    assert main([*command, str(names)]) == 2
    assert "did you mean 'ppo'" in capsys.readouterr().err
