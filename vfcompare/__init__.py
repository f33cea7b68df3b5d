"""Outcome-only policy gradients against learned value functions, with everything else held equal."""
