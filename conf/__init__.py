"""Who plays: every agent, environment and study as YAML."""
