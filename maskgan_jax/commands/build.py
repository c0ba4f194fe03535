"""`maskgan build`: makes a data set of masked and unmasked faces from photos."""

from __future__ import annotations

import argparse

from maskgan_jax.config import load_config
from maskgan_jax.data.build.build import build_data_set
from maskgan_jax.errors import UserError, one_line


def main(arguments: list[str]) -> None:
    """Builds a data set and prints its card."""
    parser = argparse.ArgumentParser(
        prog="maskgan build",
        allow_abbrev=False,
        description="Finds the faces in photos, aligns them, draws masks on them and stores the pairs as a TFDS data set.",
    )
    parser.add_argument("--config", default="default", metavar="FILE", help="config file; settings: --config.KEY=VALUE")
    parser.add_argument(
        "--source",
        action="append",
        required=True,
        dest="sources",
        metavar="KIND=FOLDER",
        help="photos: ffhq, kdef, utkface, celeba, expressions or folder (with a faces.csv or without); pairs, for photos "
        "with and without masks; or rendered=N for rendered faces; can be given many times",
    )
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="where the data set goes")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one per core)")
    parser.add_argument("--overwrite", action="store_true", help="replace the data set in --data_dir")
    parser.add_argument(
        "--keep_faces", default="", metavar="FILE", help="write the faces that are found, with their landmarks, for --faces"
    )
    parser.add_argument(
        "--faces",
        default="",
        metavar="FILE",
        help="use the faces of an earlier build's --keep_faces: they are not detected again, and dlib is not needed",
    )
    parser.add_argument(
        "--runner",
        default="",
        help="build by Apache Beam instead: DirectRunner, DataflowRunner, FlinkRunner or SparkRunner (docs/data.md)",
    )
    parser.add_argument(
        "--beam_pipeline_options",
        default="",
        metavar="KEY=VALUE,...",
        help="Beam's pipeline options, such as project=P,region=R,temp_location=gs://B/temp",
    )
    options, overrides = parser.parse_known_args(arguments)
    if options.beam_pipeline_options and not options.runner:
        raise UserError("--beam_pipeline_options are a runner's; give --runner too")
    if options.workers and options.runner:
        raise UserError("--workers are processes without Beam; with --runner, give the runner's own --beam_pipeline_options")
    config = load_config(options.config, overrides)
    card = build_data_set(
        options.sources,
        config,
        options.data_dir,
        workers=options.workers,
        overwrite=options.overwrite,
        runner=options.runner,
        runner_options=[option for option in options.beam_pipeline_options.split(",") if option],
        faces=options.faces,
        keep_faces=options.keep_faces,
    )
    for split, counts in card["splits"].items():
        people = f"{counts['identities']} people" if counts["identities"] != 1 else "1 person"
        print(f"{split}: {counts['records']} faces of {people}")
        print(f"  sources: {_listed(counts['sources'])}")
        print(f"  masks:   {_listed(counts['mask_types'])}")
    for split in card["empty"]:
        print(f"warning: {split} is empty; give it more of the photos in data.splits")
    if card["skipped"]:
        print(f"skipped: {sum(card['skipped'].values())} photos (listed in {options.data_dir}/skipped.csv)")
        for reason, count in sorted(card["skipped"].items(), key=lambda item: -item[1]):
            print(f"  {count}: {one_line(reason)}")
    if card["unused"]:
        print(f"in no split: {card['unused']} (see {options.data_dir}/skipped.csv)")
    print(f"{card['records']} faces in {options.data_dir}; look at {options.data_dir}/contact_sheet.png")
    if card["unexpected"]:
        raise UserError(
            f"the data set is finished, but without {card['unexpected']} of the photos, because of unexpected errors; "
            f"see {options.data_dir}/skipped.csv, and report errors of the program"
        )


def _listed(counts: dict[str, int]) -> str:
    return one_line(", ".join(f"{name} {count}" for name, count in counts.items()))
