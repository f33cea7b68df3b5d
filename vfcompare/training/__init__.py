"""From a cell to its files: one compiled program, chunks, checkpoints, and how it ended.

Rooms, each importing only from those before it: `stopping`, `crew`, `devices`, `progress` and `cadence`;
`compiler`, `sharding`, `programs` and `trainer`; `tasks`, `supervised`, `priors`, `judges` and `cell`;
`circumstances`, `share`, `starts`, `log`, `stages` and `attempts`; `fuse`, `execute` and `sweep`.
"""
