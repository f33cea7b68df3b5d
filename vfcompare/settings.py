"""Settings as they are typed: `key=value`, with Hydra's `+` or `~` in front."""

SEARCHPATH = "hydra.searchpath="
"""With this a user names folders of configurations; what is found on disk never does."""
PRIVATE = ("root", "priors", "study", "hydra", "resume", "save_seconds")
"""Keys that say where a run is kept and not what it is."""


def key_of(text: str) -> str:
    """What is set, such as `agent.gamma`."""
    return text.partition("=")[0].lstrip("+~")


def value_of(text: str) -> str:
    """What it is set to, as typed; nothing where a key stands alone."""
    return text.partition("=")[2]


def goes_along(text: str) -> bool:
    """Whether a setting is in no plan and typed with each command: folders of own parts, and `resume`."""
    return text.startswith(SEARCHPATH) or key_of(text) == "resume"
