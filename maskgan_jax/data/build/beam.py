"""The two long stages of a build as Apache Beam pipelines: finding the faces, and making the records."""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib
import io
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import cv2
import tensorflow_datasets as tfds
from apache_beam.options.pipeline_options import PipelineOptions
from etils import epath
from ml_collections import ConfigDict

from maskgan_jax.data.build.card import Tally
from maskgan_jax.data.build.face_lists import FaceLists, Usable
from maskgan_jax.data.build.make_record import FoundFace, find_face, try_record
from maskgan_jax.data.build.sources import Skipped
from maskgan_jax.data.masked_faces.masked_faces_dataset_builder import BeamBuilder, prepare
from maskgan_jax.errors import UserError, describe
from maskgan_jax.storage import is_remote

# By the names that people give; Beam has no short one for Dask's.
RUNNERS = {name: name for name in ("DirectRunner", "DataflowRunner", "FlinkRunner", "SparkRunner")}
RUNNERS["DaskRunner"] = "apache_beam.runners.dask.dask_runner.DaskRunner"


def beam_config(runner: str, options: Sequence[str], folders: Sequence[str]) -> tfds.download.DownloadConfig:
    """TFDS's settings for running a pipeline.

    Args:
      runner: one of `RUNNERS`.
      options: Beam's pipeline options: 'key=value', or 'key' for a switch.
      folders: which the workers must be able to reach.

    Raises:
      UserError: an unknown runner or option, an invalid value of an option, a folder that the runner's workers cannot reach,
        or Dask is not installed.
    """
    if runner not in RUNNERS:
        raise UserError(f"--runner={runner}: the runners are {', '.join(RUNNERS)}")
    if runner == "DaskRunner":
        try:
            importlib.import_module(RUNNERS[runner].rpartition(".")[0])  # Only then Beam knows its options.
        except ImportError as error:
            raise UserError(f"DaskRunner takes Dask ({error}); install the extra [dask]") from error
    complaints = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaints), contextlib.redirect_stdout(io.StringIO()):
            parsed = PipelineOptions([f"--{option}" for option in options], runner=RUNNERS[runner])
            unknown = parsed.get_all_options(retain_unknown_options=True).keys() - parsed.get_all_options().keys()
    except SystemExit as error:
        # No complaint means that help was requested.
        complaint = complaints.getvalue().strip().rpartition("error: ")[2] or f"see Beam's documentation of {runner}"
        raise UserError(f"--beam_pipeline_options: {complaint}") from error
    if unknown:
        raise UserError(
            f"--beam_pipeline_options: Beam has no option {', '.join(sorted(unknown))}; see its documentation of {runner}"
        )
    here = [folder for folder in folders if not is_remote(folder)]
    if runner == "DataflowRunner" and here:
        raise UserError(f"{here[0]} is on this machine, out of {runner}'s reach; give a folder in a cloud (gs://...)")
    return tfds.download.DownloadConfig(beam_runner=RUNNERS[runner], beam_options=parsed)


def find_faces(lists: FaceLists, photos: Sequence[int], config: ConfigDict, how: tfds.download.DownloadConfig) -> None:
    """Finds the faces in the photos of the lists, one list at a time per worker; `photos` has the length of each list.

    Raises:
      UserError: the pipeline failed, or the workers have no shape predictor.
    """
    with _reported(how, "finding faces"), beam.Pipeline(how.beam_runner, how.beam_options) as pipeline:
        _ = (
            pipeline
            | "lists" >> beam.Create(range(len(photos)))
            | "spread" >> beam.Reshuffle()
            | "find faces" >> beam.Map(_find_faces_of_list, lists=lists, data=config.data, seed=config.seed)
        )


def _find_faces_of_list(number: int, lists: FaceLists, data: ConfigDict, seed: int) -> None:
    cv2.setNumThreads(1)  # A worker has one core, or shares cores.
    lists.write_found(number, [find_face(photo, data, seed) for photo in lists.read_photos(number)])


def write_records(
    folder: epath.Path,
    splits: Mapping[str, Sequence[Usable]],
    lists: FaceLists,
    config: ConfigDict,
    how: tfds.download.DownloadConfig,
) -> Tally:
    """Writes the TFDS data set; returns the tally of its records.

    Args:
      folder: where to write it.
      splits: the photos of each split, in order.
      lists: with the faces.
      config: the settings.
      how: from `beam_config`.

    Raises:
      UserError: the pipeline failed.
    """
    targets: dict[int, dict[int, tuple[str, int]]] = collections.defaultdict(dict)
    for split, part in splits.items():
        for number, photo in enumerate(part):
            in_list, offset = photo.place
            targets[in_list][offset] = split, number
    for number, of_list in targets.items():
        lists.write_targets(number, of_list)
    builder = BeamBuilder(
        size=config.data.size,
        counts={split: len(part) for split, part in splits.items()},
        items=_PlacedFaces(lists, targets),
        make=functools.partial(_try_record, data=config.data, seed=config.seed),
        data_dir=folder,
    )
    with _reported(how, "drawing masks"):
        prepare(builder, how)
    return builder.tally


class _PlacedFaces(beam.PTransform):
    """((split, number in the split), face) for every face that is in a split."""

    def __init__(self, lists: FaceLists, numbers: Iterable[int]):
        super().__init__()
        self._lists, self._numbers = lists, sorted(numbers)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | beam.Create(self._numbers)
            | "spread" >> beam.Reshuffle()
            | "faces of list" >> beam.FlatMap(_placed_faces, lists=self._lists)
        )


def _placed_faces(number: int, lists: FaceLists) -> Iterator[tuple[tuple[str, int], FoundFace]]:
    targets = lists.read_targets(number)
    for offset, face in lists.read_found(number):
        if offset in targets:
            yield tuple(targets[offset]), face


def _try_record(face: FoundFace, data: ConfigDict, seed: int) -> dict[str, Any] | Skipped:
    cv2.setNumThreads(1)
    return try_record(face, data, seed)


@contextlib.contextmanager
def _reported(how: tfds.download.DownloadConfig, what: str) -> Iterator[None]:
    """Prints what a pipeline does, and turns its errors into UserErrors, found by their text: most runners keep no more."""
    logging.getLogger("apache_beam.runners.dataflow").setLevel(logging.INFO)  # To print where to watch the job.
    logging.getLogger("distributed").setLevel(logging.ERROR)  # Dask tells of every connection, and of every worker that ends.
    runner = how.beam_runner.rpartition(".")[2]
    print(f"{what} with {runner}", file=sys.stderr)
    try:
        yield
    except Exception as error:
        text = str(error)
        known = [text] if isinstance(error, UserError) else re.findall(r"\b(?:UserError|Unreachable): (.*)", text)
        if known:
            raise UserError(known[0].partition(" [while running")[0]) from error
        raise UserError(f"{runner} failed ({describe(error, most=300)}); its log tells more") from error
