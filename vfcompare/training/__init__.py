"""From a cell to its files: one compiled program, chunks, checkpoints, and how it ended."""
