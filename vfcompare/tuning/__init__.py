"""Tuning that is fair: as many trials and steps for every agent, on seeds that no report may use."""
