"""The promises of the tree itself: its floors, its packages, its lock file and its layout."""

import ast
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "vfcompare": ROOT / "vfcompare",
    "vfcompare.agents": ROOT / "agents",
    "vfcompare.envs": ROOT / "envs",
    "vfcompare.conf": ROOT / "conf",
}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Who may import whom: only downwards or along. A new module of vfcompare/ is added here.
FLOORS: dict[int, set[str]] = {
    0: {
        "types",
        "valuation",
        "errors",
        "failure",
        "columns",
        "words",
        "assemble",
        "schema",
    },
    1: {
        "streams",
        "returns",
        "masked",
        "baselines",
        "scales",
        "advantages",
        "targets",
        "surrogates",
        "aggregates",
        "contract",
        "scaling",
        "flops",
        "lesions",
    },
    2: {"estimators", "play", "collect", "evaluation", "batching", "oracle"},
    3: {"agents", "envs"},
    4: {"statistics", "runs"},
    5: {"training", "report"},
    6: {"commands", "tuning"},
    7: {"verbs", "main", "__main__"},
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
HYDRA_FROM = 6
NEVER = {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}


def module_name(path: Path) -> str:
    """Return the import name of a file of ours: `agents/ppo.py` is `vfcompare.agents.ppo`."""
    relative = path.relative_to(ROOT).with_suffix("")
    parts = [part for part in relative.parts if part != "__init__"]
    return ".".join(parts if parts[0] == "vfcompare" else ["vfcompare", *parts])


def sources() -> dict[str, Path]:
    """Return our modules by import name."""
    paths = [
        path for name in ("vfcompare", "agents", "envs") for path in (ROOT / name).rglob("*.py")
    ]
    return {module_name(path): path for path in sorted(paths)}


SOURCES = sources()


def part(module: str) -> str:
    """Return what stands on a floor: `vfcompare.agents.ppo` is part of `agents`."""
    return module.split(".")[1] if "." in module else ""


def absolute(node: ast.ImportFrom, module: str) -> str:
    """Return the module that a `from` names, also a relative one."""
    if not node.level:
        return node.module or ""
    is_package = SOURCES[module].name == "__init__.py"
    anchor = module.split(".")
    anchor = anchor[: len(anchor) - node.level + is_package]
    return ".".join([*anchor, node.module] if node.module else anchor)


def imports(module: str) -> Iterator[str]:
    """Yield every name a module imports, inside functions and for checkers only included."""
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(node, module)
            yield source
            if source == "vfcompare":
                yield from (f"vfcompare.{alias.name}" for alias in node.names)


def our_imports(module: str) -> set[str]:
    """Return the parts of vfcompare that a module imports, without its own."""
    names = {name for name in imports(module) if name.startswith("vfcompare.")}
    return {part(name) for name in names if part(name) in FLOOR_OF} - {part(module)}


def rooms(package: str) -> list[str]:
    """Return the rooms of a package in the order that its docstring gives, if it gives one."""
    told = ast.get_docstring(ast.parse(SOURCES[package].read_text())) or ""
    return re.findall(r"`(\w+)`", told.partition("each importing only from those before it: ")[2])


def rooms_used(module: str, package: str) -> set[str]:
    """Return the rooms of a package that a module imports from."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and absolute(node, module) == package:
            found |= {alias.name for alias in node.names}
    return found | {name.removeprefix(f"{package}.").split(".")[0] for name in imports(module)}


def documented(module: str) -> Iterator[tuple[str, bool]]:
    """Yield each public function and class of a module, and whether it has a docstring."""
    for node in ast.parse(SOURCES[module].read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, ast.get_docstring(node) is not None


def test_every_module_has_a_floor() -> None:
    parts = {part(name) for name in SOURCES} - {""}
    assert parts <= set(FLOOR_OF), "add the module to FLOORS"


@pytest.mark.parametrize("module", SOURCES)
def test_imports_only_go_down(module: str) -> None:
    floor = FLOOR_OF.get(part(module), 0)
    upwards = {name for name in our_imports(module) if FLOOR_OF[name] > floor}
    assert not upwards, f"{module} is on floor {floor}"


@pytest.mark.parametrize("package", [name for name in SOURCES if rooms(name)])
def test_rooms_are_in_the_order_that_is_told(package: str) -> None:
    told = rooms(package)
    there = {
        name.removeprefix(f"{package}."): name for name in SOURCES if name.startswith(f"{package}.")
    }
    assert sorted(told) == sorted({name.split(".")[0] for name in there})
    for room, module in there.items():
        own = room.split(".")[0]
        later = set(told[told.index(own) + 1 :])
        assert not rooms_used(module, package) & later, f"{module} imports a later room"


@pytest.mark.parametrize("module", SOURCES)
def test_only_conf_knows_who_plays(module: str) -> None:
    assert not our_imports(module) & {"agents", "envs"}


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_is_imported_under_a_second_name(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(module)} & {"agents", "envs", "conf"}


@pytest.mark.parametrize("module", SOURCES)
def test_hydra_stays_at_the_door(module: str) -> None:
    floor = FLOOR_OF.get(part(module), 0)
    hydra = {name for name in imports(module) if name.split(".")[0] in ("hydra", "omegaconf")}
    assert floor >= HYDRA_FROM or not hydra


@pytest.mark.parametrize("module", SOURCES)
def test_nothing_loads_code_from_data(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(module)} & NEVER
    assert not list(loaders(module))


def loaders(module: str) -> Iterator[str]:
    """Yield what a module calls that runs what it is given, and arrays that may hold pickles."""
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("eval", "exec", "yaml.load", "yaml.load_all", "yaml.unsafe_load"):
                yield called
            for option in node.keywords:
                if option.arg == "allow_pickle" and ast.unparse(option.value) != "False":
                    yield f"{called}(allow_pickle)"


def test_parts_of_vfcompare_do_not_import_each_other_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for module in SOURCES:
        edges.setdefault(part(module), set()).update(our_imports(module))
    while leaves := {name for name in edges if not edges[name] & set(edges)}:
        edges = {name: targets for name, targets in edges.items() if name not in leaves}
    assert not edges


@pytest.mark.parametrize("module", SOURCES)
def test_public_names_have_a_docstring(module: str) -> None:
    assert [name for name, has in documented(module) if not has] == []


def test_the_layout_is_the_fixed_one() -> None:
    names = ["pyproject.toml", "README.md", *("vfcompare", "conf", "agents", "envs", "benchmarks")]
    assert [name for name in [*names, "tests"] if not (ROOT / name).exists()] == []


def test_checkers_see_the_folders_that_setuptools_maps() -> None:
    for name in ("agents", "envs"):
        assert (ROOT / "typings" / "vfcompare" / name).resolve() == ROOT / name


def test_every_package_is_listed_for_the_wheel() -> None:
    found = {"vfcompare.conf"} | {
        name for name, path in SOURCES.items() if path.name == "__init__.py"
    }
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == found


def test_agents_and_envs_are_flat_but_for_the_tasks_in_tokens() -> None:
    nested = {path.parent for name in ("agents", "envs") for path in (ROOT / name).rglob("*/*.py")}
    assert nested <= {ROOT / "envs" / "tokens"}


def locked() -> dict[str, list[Requirement]]:
    """Return the pins of the lock file by canonical name; several where Pythons differ."""
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line[:1].isalnum():
            pin = Requirement(line.rstrip("\\ "))
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def declared() -> list[Requirement]:
    """Return every requirement of the project, extras included."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    return [Requirement(text) for group in (project["dependencies"], *extras) for text in group]


def test_the_lock_file_names_no_place_to_download_from() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert [
        word for word in ("://", "--index", "--extra-index", "--find-links") if word in text
    ] == []


def test_every_pin_has_a_hash() -> None:
    blocks = (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines()
    pins = [line for line in blocks if line[:1].isalnum()]
    assert [line.split(" ")[0] for line in pins if "--hash=sha256:" not in line] == []


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_the_lock_file_satisfies_the_project(requirement: Requirement) -> None:
    pins = locked()[canonicalize_name(requirement.name)]
    for pin in pins:
        (version,) = [specifier.version for specifier in pin.specifier]
        assert requirement.specifier.contains(version)


@pytest.mark.slow
def test_the_wheel_carries_configuration_and_templates(tmp_path: Path) -> None:
    # A copy, because setuptools builds inside the tree and would pick up stale products of its own.
    tree = tmp_path / "tree"
    for folder in FOLDERS.values():
        shutil.copytree(folder, tree / folder.name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--no-index", "--wheel-dir", str(tmp_path), str(tree)], check=True, timeout=300
    )
    (wheel,) = tmp_path.glob("vfcompare-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {"vfcompare/py.typed"}
    for package, folder in FOLDERS.items():
        files = [path for suffix in ("*.py", "*.yaml") for path in folder.rglob(suffix)]
        prefix = package.replace(".", "/")
        wanted |= {f"{prefix}/{path.relative_to(folder).as_posix()}" for path in files}
    templates = (path for path in (ROOT / "vfcompare" / "report" / "pages" / "templates").glob("*"))
    wanted |= {f"vfcompare/report/pages/templates/{path.name}" for path in templates}
    assert wanted - names == set()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"vfcompare"}


def test_adding_an_estimator_takes_less_than_forty_lines():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    example = text.split("All of it for the median of a group, as a diff")[1].split("\n`vfcompare")[
        0
    ]
    diff = textwrap.dedent(example[example.index("\n    --- ") + 1 :])
    lines = diff.splitlines()
    for file in ("vfcompare/baselines.py", "conf/estimator", "conf/agent", "tests/"):
        assert any(line.startswith(f"+++ b/{file}") for line in lines), file
    assert 20 < sum(line.startswith("+") and not line.startswith("+++") for line in lines) < 40
    # What is written there is what people type: it has to fit the code as it is.
    command = ["git", "apply", "--check", "-"]
    tried = subprocess.run(command, cwd=ROOT, input=diff, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr
