"""A view of a run for TensorBoard, written with its own event writer and without TensorFlow.

The tables are the truth; this view is made from them and can be made again.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams import plugin_data_pb2, summary_v2
from tensorboard.plugins.scalar import metadata as scalars
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util

from vfcompare.store import Table


class View:
    """TensorBoard runs of one cell: one per seed, below `folder/seed-N`.

    All seeds share a trial, so that the HParams page averages them; a diverged seed shows as failed.
    """

    def __init__(
        self, folder: Path, trial: str, settings: Mapping[str, Any], seeds: list[int]
    ) -> None:
        """Replace whatever view there was.

        Args:
          folder: the run's `tb` folder.
          trial: what all seeds share.
          settings: hyperparameters, plain values.
          seeds: of the run.
        """
        shutil.rmtree(folder, ignore_errors=True)
        self._writers = {seed: EventFileWriter(str(folder / f"seed-{seed}")) for seed in seeds}
        for writer in self._writers.values():
            _add(writer, summary_v2.hparams_pb(dict(settings), trial_id=trial), 0)

    def add(self, prefix: str, table: Table) -> None:
        """Add a point to each curve of `prefix` for each row of a table."""
        names = [name for name in table if name not in ("seed", "update", "env_steps")]
        for row, seed in enumerate(table["seed"]):
            step = int(table["env_steps"][row])
            values = [_scalar(f"{prefix}/{name}", float(table[name][row])) for name in names]
            _add(self._writers[int(seed)], summary_pb2.Summary(value=values), step)

    def close(self, status: Mapping[int, str]) -> None:
        """Say how each seed ended, and flush."""
        for seed, writer in self._writers.items():
            _add(writer, _end(status[seed] == "completed"), 0)
            writer.close()


def _scalar(tag: str, value: float) -> summary_pb2.Summary.Value:
    kind = scalars.create_summary_metadata(display_name="", description="")
    tensor = tensor_util.make_tensor_proto(np.float32(value))
    return summary_pb2.Summary.Value(tag=tag, metadata=kind, tensor=tensor)


def _end(succeeded: bool) -> summary_pb2.Summary:
    status = "STATUS_SUCCESS" if succeeded else "STATUS_FAILURE"
    info = plugin_data_pb2.SessionEndInfo(status=status)
    kind = hparams.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=info))
    value = summary_pb2.Summary.Value(
        tag=hparams.SESSION_END_INFO_TAG, metadata=kind, tensor=hparams.NULL_TENSOR
    )
    return summary_pb2.Summary(value=[value])


def _add(writer: EventFileWriter, summary: summary_pb2.Summary, step: int) -> None:
    writer.add_event(event_pb2.Event(summary=summary, step=step, wall_time=time.time()))
