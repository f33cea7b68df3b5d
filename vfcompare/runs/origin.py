"""Which code a number comes from: versions of packages, and the commit of the source tree."""

import functools
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("vfcompare", "jax", "jaxlib", "flax", "optax", "rlax", "gymnasium", "numpy")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on, without importing them."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@functools.cache
def git_state() -> dict[str, Any]:
    """Commit of the source tree and whether it was changed; empty where no repository has it.

    As it was when this process first asked: what it runs was read then.
    """

    def git(*args: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(
            ["git", "-C", here, *args], capture_output=True, text=True, timeout=10
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        # An environment within somebody's repository is not part of it.
        ours = git("ls-files", "--error-unmatch", Path(__file__).name)
        commit = git("rev-parse", "HEAD") if ours else ""
        return {"commit": commit, "dirty": bool(git("status", "--porcelain"))} if commit else {}
    except (OSError, subprocess.SubprocessError):
        return {}
