"""A view of a run for TensorBoard, written with its own records and without TensorFlow.

The tables are the truth; this view is made from them and can be made again.
"""

import math
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as charts
from tensorboard.plugins.histogram import metadata as histograms
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams import plugin_data_pb2, summary_v2
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.scalar import metadata as scalars
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

from vfcompare import statistics
from vfcompare.columns import ADVANTAGE_EDGES, LOSSES
from vfcompare.runs.pictures import png, strip
from vfcompare.runs.store import Table

TOGETHER = "all-seeds"
"""Name of the run that has the mean of all seeds, and its interval."""

BANDS = ("return_sampled", "return_greedy")
"""Columns of the evaluation that get a chart with an interval."""

ENDS = ("value", "lower", "upper")

SCALAR = scalars.create_summary_metadata(display_name="", description="")

RESAMPLES = 1000

SIGNS = ("return_sampled", *LOSSES)
"""Columns that are not finite where a seed has diverged."""

MOMENTS = ("advantage_mean", "advantage_std")


class EventFile:
    """A file of events, open only while it is flushed.

    TensorBoard's own writer keeps a thread and an open file, and a fused sweep has hundreds of runs.
    """

    def __init__(self, folder: Path) -> None:
        """Begin the file; nothing is written before `flush`.

        Args:
          folder: in which TensorBoard looks for it; made where it is missing.
        """
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / name
        self._pending = [event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2")]

    def record(self, summary: summary_pb2.Summary, step: int) -> None:
        """Note something at a step."""
        self._pending.append(event_pb2.Event(summary=summary, step=step, wall_time=time.time()))

    def flush(self) -> None:
        """Append what was noted since the last time.

        Raises:
          OSError: that names the file, for a full disk, too.
        """
        if not self._pending:
            return
        try:
            with self._path.open("ab") as file:
                records = RecordWriter(file)
                for event in self._pending:
                    records.write(event.SerializeToString())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self._pending.clear()


class View:
    """TensorBoard runs of one cell: one per seed, below `folder/seed-N`, and one of all seeds together.

    All seeds share a trial, so that the HParams page averages them; a diverged seed shows as failed, and so
    do all seeds together. Their run has the means of all curves and histograms, the episodes, and the
    interquartile mean of the returns with its 95% interval, which the page "Custom scalars" draws as a band.
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
        self._env = str(settings.get("env", "return"))
        self._seeds = {seed: EventFile(folder / f"seed-{seed}") for seed in seeds}
        self._together = EventFile(folder / TOGETHER)
        start = summary_v2.hparams_pb(dict(settings), trial_id=trial)
        for file in (*self._seeds.values(), self._together):
            file.record(start, 0)
        self._together.record(_layout(self._env), 0)

    def add(self, prefix: str, table: Table) -> None:
        """Add a point to each curve of `prefix`, and to each histogram, for each row of a table.

        Rows of the same seed stand together, in the order of their points.
        """
        for row, seed in enumerate(table["seed"]):
            of = {name: float(column[row]) for name, column in table.items()}
            _point(self._seeds[int(seed)], prefix, of)
        for means in _means(table):
            _point(self._together, prefix, means)

    def picture(self, seed: int, step: int, tag: str, frames: np.ndarray) -> None:
        """Add an episode of a seed, `frames [F, height, width, 3]`, as one picture."""
        value = _image(tag, strip(frames), f"seed {seed}")
        self._together.record(summary_pb2.Summary(value=[value]), step)

    def close(self, status: Mapping[int, str], evaluation: Table) -> None:
        """Say how each seed ended, and add the band of all seeds."""
        for seed, file in self._seeds.items():
            file.record(_end(status[seed] == "completed"), 0)
        for step, values in _bands(self._env, evaluation):
            self._together.record(summary_pb2.Summary(value=values), step)
        self._together.record(_end(all(word == "completed" for word in status.values())), 0)
        self.flush()

    def flush(self) -> None:
        """Let TensorBoard see what was added."""
        for file in (*self._seeds.values(), self._together):
            file.flush()


def _point(file: EventFile, prefix: str, of: Mapping[str, float]) -> None:
    """One point of each curve, and of the histogram of advantages."""
    shares = [name for name in of if name.startswith("advantage_below_")]
    apart = {"seed", "point", "update", "env_steps", *shares}
    values = [_scalar(f"{prefix}/{name}", value) for name, value in of.items() if name not in apart]
    if shares:
        values.append(_histogram(f"{prefix}/advantage", of, shares))
    file.record(summary_pb2.Summary(value=values), int(of["env_steps"]))


def _means(table: Table) -> Iterator[dict[str, float]]:
    """For each point the mean of every column over the seeds that have not diverged, where it is finite."""
    signs = [np.isfinite(table[name]) for name in SIGNS if name in table]
    good = np.all(signs, axis=0) if signs else np.ones(len(table["seed"]), bool)
    _, first, seed = np.unique(table["seed"], return_index=True, return_inverse=True)
    point = np.arange(len(seed)) - first[seed]
    for index in range(point.max(initial=-1) + 1):
        found = {name: column[good & (point == index)] for name, column in table.items()}
        if not found["seed"].size:
            continue
        finite = {name: x[np.isfinite(x)].astype(np.float64) for name, x in found.items()}
        yield {name: float(x.mean()) if x.size else math.nan for name, x in finite.items()}


def _bands(env: str, table: Table) -> Iterator[tuple[int, list[summary_pb2.Summary.Value]]]:
    """For each evaluation its step and, of the finite seeds, IQM, interval and number."""
    points, seeds = np.unique(table["point"]), np.unique(table["seed"])
    shape = len(seeds), len(points)
    at = np.lexsort((table["point"], table["seed"]))
    curves = {name: table[name][at].reshape(shape) for name in BANDS if name in table}
    kept = np.all([np.isfinite(curve).all(1) for curve in curves.values()], axis=0)
    steps = table["env_steps"][at].reshape(shape)
    # A diverged seed stands still.
    steps = (steps[kept] if kept.any() else steps).mean(0)
    known: dict[str, tuple[np.ndarray | None, ...]] = {}
    if kept.any():
        rng = np.random.default_rng(0)
        known = {
            n: statistics.curve_interval(rng, c[kept], reps=RESAMPLES) for n, c in curves.items()
        }
    for point, step in enumerate(steps):
        values = [_scalar("seeds", float(kept.sum()))]
        for name, ends in known.items():
            values += [
                _scalar(f"{env}/{name}/{end}", float(line[point]))
                for end, line in zip(ENDS, ends, strict=True)
                if line is not None
            ]
        yield int(step), values


def _layout(env: str) -> summary_pb2.Summary:
    """Of the page "Custom scalars": one chart of each kind of return, with the bands of an environment."""
    ends = {name: {end: f"{env}/{name}/{end}" for end in ENDS} for name in BANDS}
    series = {name: layout_pb2.MarginChartContent.Series(**tags) for name, tags in ends.items()}
    drawn = [
        layout_pb2.Chart(
            title=f"{env} {name}", margin=layout_pb2.MarginChartContent(series=[series[name]])
        )
        for name in BANDS
    ]
    category = layout_pb2.Category(title="Interquartile mean of seeds, 95% interval", chart=drawn)
    layout = layout_pb2.Layout(category=[category])
    value = summary_pb2.Summary.Value(
        tag=charts.CONFIG_SUMMARY_TAG,
        metadata=charts.create_summary_metadata(),
        tensor=tensor_util.make_tensor_proto(layout.SerializeToString(), dtype=np.object_),
    )
    return summary_pb2.Summary(value=[value])


def _histogram(tag: str, of: Mapping[str, float], shares: list[str]) -> summary_pb2.Summary.Value:
    """Shares of steps between the edges; what lies beyond the outer ones is drawn up to twice as far."""
    size = math.hypot(*(of[name] for name in MOMENTS))
    edges = size * np.array([2 * ADVANTAGE_EDGES[0], *ADVANTAGE_EDGES, 2 * ADVANTAGE_EDGES[-1]])
    below = np.array([0.0, *(of[name] for name in shares), 1.0])
    buckets = np.stack([edges[:-1], edges[1:], np.diff(below)], axis=1)
    kind = histograms.create_summary_metadata(display_name="", description="share of steps")
    tensor = tensor_util.make_tensor_proto(buckets.astype(np.float64))
    return summary_pb2.Summary.Value(tag=tag, metadata=kind, tensor=tensor)


def _image(tag: str, picture: np.ndarray, said: str) -> summary_pb2.Summary.Value:
    kind = images.create_summary_metadata(display_name="", description=said)
    height, width = picture.shape[:2]
    content = [str(width).encode(), str(height).encode(), png(picture)]
    tensor = tensor_util.make_tensor_proto(content, dtype=np.object_)
    return summary_pb2.Summary.Value(tag=tag, metadata=kind, tensor=tensor)


def _scalar(tag: str, value: float) -> summary_pb2.Summary.Value:
    # Not by `make_tensor_proto`, which takes ten times as long: there are thousands.
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[value])
    return summary_pb2.Summary.Value(tag=tag, metadata=SCALAR, tensor=tensor)


def _end(succeeded: bool) -> summary_pb2.Summary:
    status = "STATUS_SUCCESS" if succeeded else "STATUS_FAILURE"
    info = plugin_data_pb2.SessionEndInfo(status=status)
    kind = hparams.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=info))
    value = summary_pb2.Summary.Value(
        tag=hparams.SESSION_END_INFO_TAG, metadata=kind, tensor=hparams.NULL_TENSOR
    )
    return summary_pb2.Summary(value=[value])
