"""Settings as they are typed: `key=value`, with Hydra's `+` or `~` in front."""


def key_of(text: str) -> str:
    """What is set, such as `agent.gamma`."""
    return text.partition("=")[0].lstrip("+~")


def value_of(text: str) -> str:
    """What it is set to, as typed; nothing where a key stands alone."""
    return text.partition("=")[2]
