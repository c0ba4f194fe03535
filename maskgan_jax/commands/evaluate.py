"""`maskgan evaluate`: scores a trained network of any kind, or a baseline, on a split of a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from maskgan_jax.commands.score import add_metric_flags, lpips_weights, print_scores
from maskgan_jax.errors import UserError
from maskgan_jax.files import check_scores_file, check_writable, write_json
from maskgan_jax.metrics.evaluation import evaluate, write_examples
from maskgan_jax.metrics.face_quality import check_face_metrics
from maskgan_jax.metrics.landmark_accuracy import evaluate_landmarks
from maskgan_jax.metrics.segmentation_accuracy import evaluate_segmentation
from maskgan_jax.networks.stored import checkpoint_of, read_description
from maskgan_jax.runtime.allocator import compute_in_main_thread
from maskgan_jax.runtime.workers import number_of_workers


def main(arguments: list[str]) -> None:
    """Reads the flags, scores, prints the scores and says where they are."""
    parser = argparse.ArgumentParser(
        prog="maskgan evaluate",
        description="Scores a trained network of any kind, or a baseline, on a split of a data set.",
        allow_abbrev=False,
    )
    parser.add_argument("--workdir", metavar="PATH", help="folder of a `maskgan train` run, or an exported network; for 'ours'")
    parser.add_argument(
        "--step",
        default="best",
        metavar="best|last|N",
        help="of a run: which checkpoint is scored (default: best by validation)",
    )
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="data set made by `maskgan build`")
    parser.add_argument(
        "--method",
        default="ours",
        choices=["ours", "input", "telea", "navier_stokes", "dlib"],
        help="ours: the trained network; input: the masked image itself; telea, navier_stokes: OpenCV's inpainting; dlib: its "
        "landmarks",
    )
    parser.add_argument("--split", default="test", choices=["train", "validation", "test"], help="records to score on")
    parser.add_argument("--out", required=True, metavar="FILE.json", help="where the scores are written")
    parser.add_argument("--examples", metavar="FILE.png", help="also draw 24 of the faces; for a mask remover")
    parser.add_argument(
        "--pictures",
        metavar="DIR",
        help="also write the faces, as real/, masked/ and mask/, and what the method made of them; for a mask remover",
    )
    add_metric_flags(parser)
    options = parser.parse_args(arguments)
    if options.workdir:
        options.workdir = checkpoint_of(options.workdir, options.step)
    task = read_description(options.workdir)[0].task if options.workdir else "unmask"
    if options.method == "dlib":
        task = "landmarks"
    _check(options, task)
    check_face_metrics(options.metrics)
    workers = number_of_workers(options.workers)
    check_scores_file(options.out)
    # An empty path is one that was given, and is refused.
    for path in (options.examples, options.pictures and Path(options.pictures) / "real" / "face.png"):
        if path is not None:
            check_writable(path)
    compute_in_main_thread()

    # First, because what is wrong with the network shows here, before the long part.
    if options.examples:
        write_examples(options.examples, options.data_dir, options.workdir, split=options.split)
        print(f"examples are in {options.examples}")
    if task == "landmarks":
        scores = evaluate_landmarks(options.method, options.data_dir, workdir=options.workdir, split=options.split)
    elif task == "segmentation":
        scores = evaluate_segmentation(options.data_dir, options.workdir, split=options.split)
    else:
        scores = evaluate(
            options.method,
            options.data_dir,
            workdir=options.workdir,
            split=options.split,
            lpips_weights=lpips_weights(options),
            pictures=options.pictures,
            metrics=options.metrics,
            workers=workers,
        )
        if options.pictures:
            print(f"images are in {options.pictures}")
    print_scores(scores)
    write_json(options.out, scores)
    print(f"scores are in {options.out}")


def _check(options: argparse.Namespace, task: str) -> None:
    """Raises UserError for flags that do not go together."""
    for flag in ("examples", "pictures", "metrics", "workers", "lpips_alexnet", "lpips_heads"):
        if task != "unmask" and getattr(options, flag):
            raise UserError(f"--{flag} is for mask removers, not for {task}; leave it out")
    for what, asked in (("the method 'ours'", options.method == "ours"), ("--examples", options.examples)):
        if asked and not options.workdir:
            raise UserError(f"{what} needs --workdir: the folder of a training run, or an exported network")
    if options.step != "best" and not options.workdir:
        raise UserError("--step is of the run that --workdir names; give both")
    if options.workdir and options.method != "ours" and not options.examples:
        raise UserError(f"the method {options.method!r} uses no network; leave out --workdir, or the --method")
