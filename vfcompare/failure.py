"""Whose failure a crash is, by the message that a run keeps of it: `type: text` of the exception."""

import builtins
import faulthandler
import sys

XLA = ("XlaRuntimeError", "JaxRuntimeError")
"""What JAX raises for whatever happens in a compiled program; the text begins with a code."""

MEMORY = "RESOURCE_EXHAUSTED"

MACHINE = (MEMORY, "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED")
"""Codes of XLA that say nothing about the program."""


def say_where() -> None:
    """Let a crash of the interpreter, as by a segmentation fault, say in which line of Python it was."""
    if sys.__stderr__ is not None and not faulthandler.is_enabled():
        faulthandler.enable(sys.__stderr__)


def describe(error: BaseException) -> str:
    """The message that is kept of an exception."""
    return f"{type(error).__name__}: {error}"


def of_memory(message: str) -> bool:
    """Whether memory ran out: of the host, or of a device."""
    kind, text = _parts(message)
    exhausted = text.startswith(MEMORY) or "CUDA_ERROR_OUT_OF_MEMORY" in text
    return kind.endswith("MemoryError") or (kind in XLA and exhausted)


def of_machine(message: str) -> bool:
    """Whether a crash says nothing about the agent: the disk, the memory or the machine gave way.

    By the type of the exception and, for XLA's, its code. The text alone decides nothing: an agent's own
    error may speak of what was lost, or of a timeout, as well.
    """
    kind, text = _parts(message)
    error = getattr(builtins, kind, None)
    system = isinstance(error, type) and issubclass(error, OSError)
    device = kind in XLA and (text.startswith(MACHINE) or "CUDA_ERROR" in text)
    return system or device or of_memory(message)


def _parts(message: str) -> tuple[str, str]:
    kind, _, text = message.partition(":")
    return kind, text.strip()
