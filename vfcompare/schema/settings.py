"""Settings as they are typed: `key=value`, with Hydra's `+` or `~` in front."""

SEARCHPATH = "hydra.searchpath="
"""With this a user names folders of configurations; what is found on disk never does."""
PRIVATE = ("root", "priors", "study", "hydra", "resume", "save_seconds")
"""Keys that say where a run is kept and not what it is."""

PLACES = ("root", "priors", "study.name")
"""Keys whose values are names on disk."""


def key_of(text: str) -> str:
    """What is set, such as `agent.gamma`."""
    return text.partition("=")[0].lstrip("+~")


def value_of(text: str) -> str:
    """What it is set to, as typed; nothing where a key stands alone."""
    return text.partition("=")[2]


def quoted(text: str) -> str:
    """A setting that names a place, in quotes where it has letters that Hydra reads in quotes alone.

    What has a sign of its grammar beside these stays as it was typed, since it may be meant.
    """
    key, _, value = text.partition("=")
    plain = value.isascii() or not {*value}.isdisjoint("'\"\\,[](){}$\t\n")
    return text if key not in PLACES or plain else f'{key}="{value}"'


def goes_along(text: str) -> bool:
    """Whether a setting is in no plan and typed with each command: folders of own parts, and `resume`."""
    return text.startswith(SEARCHPATH) or key_of(text) == "resume"
