"""Tuning that is fair: as many trials and steps for every agent, on seeds that no report may use.

Rooms, each importing only from those before it: `space`, `ledger`, `tpe`, `search`, `result`, `command`.
"""
