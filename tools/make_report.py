"""Makes a page of tables, and a figure, of the scores of `tools/run_experiment.py paper`: the paper's tables, with intervals.

    python tools/make_report.py RUNS --long=RUNS_OF_TABLE_1 --out=results.md

Beside the page it writes `results.png`, the curves of all runs, and `results.json`, all that the page is made of. With that
file in place of RUNS the page is made again; with that file before RUNS, what is new is added to it:

    python tools/make_report.py results.json RUNS --out=results.md

What the page has above the tables, up to the line that says so, is kept.

Scores of `maskgan score`, RUNS/NAME/scores.json, are those of a system of another program, if the pictures were made from those
that `maskgan evaluate --pictures` wrote and have their names. Some scores of `maskgan evaluate` must be in RUNS, too: they tell
who is in the pictures.

Intervals are of 95 %: percentiles of the means of 2,000 bootstrap samples, of people rather than of images, as those of one
person are alike. The samples are the same for all systems, so that differences are paired.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import check_writable, replacing, write_text
from maskgan_jax.metrics.evaluation import picture_name
from maskgan_jax.run_files import CONFIG, METRICS, read_curves
from maskgan_jax.study.statistics import interval, weighted_mean

SAMPLES = 2000
# Scores, what they are called, how they are written, and whether less is better.
COLUMNS = {
    "mse_masked": ("MSE in the mask", ".0f", True),
    "psnr": ("PSNR", ".2f", False),
    "ssim": ("SSIM", ".4f", False),
    "st_lpips": ("ST-LPIPS", ".4f", True),
}
MORE_COLUMNS = {
    "contour": ("contour error", ".4f", True),
    "mouth": ("mouth error", ".4f", True),
    "identity": ("identity distance", ".3f", True),
    "expression": ("same expression", ".2f", False),
}
# What ends the names of runs with other seeds.
SEED = "_seed"
# What the systems are compared with.
BASES = ("pix2pix", "yi", "masked")
# The paper's Table 2, and its Table 1: MSE, PSNR, SSIM and LPIPS, by our names of its systems, and by epochs.
OF_PAPER = {
    "telea": (6745.976, 23.999, 0.907, 0.0916),
    "pix2pix": (2685.080, 27.633, 0.896, 0.0547),
    "yi": (2997.073, 27.148, 0.908, 0.0515),
    "proposed": (2319.373, 28.789, 0.926, 0.0459),
}
OF_PAPER_BY_EPOCH = {
    "10": (2594.464, 27.596, 0.901, 0.0907),
    "30": (2230.605, 28.700, 0.916, 0.0626),
    "60": (2249.282, 28.823, 0.922, 0.0556),
    "100": (2242.827, 28.843, 0.924, 0.0522),
    "300": (2319.373, 28.789, 0.926, 0.0459),
}
# The order of the rows, each with its other seeds; others follow.
ORDER = ("input", "telea", "navier_stokes", "pix2pix", "yi", "contour", "contour_x5", "masked", "proposed", "default")
# What is known of the images, what it is called, and the scores by it.
LABELS = {
    "source": ("source", ("mse_masked", "st_lpips")),
    "mask_type": ("kind of mask", ("mse_masked", "st_lpips")),
    "acted": ("expression", ("mse_masked", "st_lpips", "expression")),
}
# Curves: the validation's, and terms of the loss as they are logged, before their weights.
CURVES = {
    "mse_masked": "validation: MSE in the mask",
    "l1": "L1",
    "adversarial": "generator's adversarial loss",
    "discriminator": "discriminator's loss",
    "mask_discriminator": "loss of yi's second discriminator",
    "masked": "C2, squared error in the mask",
    "contour": "C1, contour landmarks",
    "feature_matching": "feature matching",
    "ssim": "1 - SSIM",
    "perceptual_vgg": "ST-LPIPS with VGG",
}
COLUMNS_OF_CURVES = 3
TABLES = "<!-- What follows is made by tools/make_report.py. -->\n"


class Scores(NamedTuple):
    """The scores of one system on one test set, by image.

    Attributes:
      values: {score: `[N]`}, NaN where there is none.
      people: `[N]`, a number for each person.
      labels: {'source', 'mask_type' and 'acted', the expression: `[N]` strings}.
    """

    values: dict[str, np.ndarray]
    people: np.ndarray
    labels: dict[str, np.ndarray]


def collect(runs: Path, long: Path | None = None) -> dict[str, Any]:
    """What the page is made of: scores by image, in few digits and without names, costs, curves.

    Args:
      runs: folder of `run_experiment.py paper`.
      long: that of `run_experiment.py table_1`.

    Returns:
      `images`, {label: values by image}; `systems`, by their names: the scores `raw`, as the generator draws, and of the
      `composite`, which has the known pixels of the photo (OpenCV's methods have only the latter, other programs only what
      they drew: it stands for both), the means on `others` than the experiment's test set, and the cost; `networks`, the
      scores of those that systems need; `epochs`, scores of checkpoints; `curves`.

    Raises:
      UserError: there are no scores, or of a system those of other images.
    """
    of_first: dict[str, Any] = {}
    collected: dict[str, Any] = {"systems": {}, "networks": {}, "epochs": {}, "curves": {}}
    every = {path: _read(path) for path in sorted(runs.glob("*/scores.json"))}
    evaluated = next((scores["images"] for scores in every.values() if scores.get("split") and "images" in scores), [])
    for path, scores in every.items():
        name = path.parent.name
        if "mse_masked" not in scores:  # A landmark or segmentation network.
            collected["networks"][name] = scores
            continue
        with _naming(path):
            if "split" not in scores:  # Of `maskgan score`.
                scores["images"] = _labelled(path, scores["images"], evaluated)
            images = _images_of(scores)
            of_first = of_first or images
            if images != of_first:
                raise UserError(f"{path} is of other images than those of other systems; delete it and score again")
            system = {"seconds_per_image": scores.get("seconds_per_image"), "parameters": scores.get("parameters")}
            system["raw"] = _columns(scores["images"], COLUMNS)
            system["composite"] = _columns(_composite(scores)["images"], COLUMNS | MORE_COLUMNS)
        system["others"] = {}
        for other in sorted(path.parent.glob("scores_*.json")):
            with _naming(other):
                system["others"][other.stem.removeprefix("scores_")] = _composite(_read(other))["mse_masked"]
        collected["systems"][name] = system
        if (path.parent / METRICS).is_file():
            collected["curves"][name] = _curves(path.parent)
    if not of_first:
        raise UserError(f"{runs} has no scores of mask removers; run the experiment first")
    collected["images"] = of_first
    for folder in (runs, *([long] if long else [])):
        collected["epochs"].update(_epochs(folder / "proposed"))
    return collected


def merged(parts: Mapping[Path, dict[str, Any]]) -> dict[str, Any]:
    """What was collected in several places, in the order of the rows; of a system in several, the last counts.

    Raises:
      UserError: they have scores of other images.
    """
    first, *others = parts.values()
    for path, part in parts.items():
        if part["images"] != first["images"]:
            raise UserError(f"{path} has scores of other images than {next(iter(parts))}; make a page of its own for it")
    together = {key: {**first[key]} for key in ("systems", "networks", "epochs", "curves")}
    for part in others:
        for name in part["systems"]:
            together["curves"].pop(name, None)
        for key, entries in together.items():
            entries.update(part[key])
    for key in ("systems", "curves"):
        together[key] = dict(sorted(together[key].items(), key=lambda item: _row(item[0])))
    return together | {"images": first["images"]}


def _row(name: str) -> tuple[int, str]:
    system = name.partition(SEED)[0]
    return ORDER.index(system) if system in ORDER else len(ORDER), name


def _epochs(workdir: Path) -> dict[str, dict[str, dict[str, float]]]:
    """{size and width of a run: {epoch: means of the raw output}}; none of a folder without scores."""
    if not (workdir / "scores.json").is_file():
        return {}
    config = _read(workdir / CONFIG)
    with _naming(workdir / CONFIG):
        title = f"{config['data']['size']} px, width {config['generator']['width']}"
        ends = {round(config["training"]["epochs"]): workdir / "scores.json"}
    for path in workdir.glob("epoch_*.json"):
        with _naming(path):
            ends[int(path.stem.removeprefix("epoch_"))] = path
    means = {}
    for epoch, path in sorted(ends.items()):
        with _naming(path):
            scores = _read(path)
            means[str(epoch)] = {column: scores[column] for column in COLUMNS}
    return {title: means}


def _read(path: Path) -> dict[str, Any]:
    with _naming(path):
        return dict(json.loads(path.read_text()))


@contextlib.contextmanager
def _naming(path: Path | str, what: str = "scores of `maskgan evaluate`") -> Iterator[None]:
    """Names a file that is not as it should be, and what it lacks."""
    try:
        yield
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} has no {what} ({type(error).__name__}: {error})") from error


def _composite(scores: Mapping[str, Any]) -> Mapping[str, Any]:
    return scores.get("put_back", scores)


def _images_of(scores: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the images; people as numbers, and the names as a digest, as they may be those of private photos."""
    images = scores["images"]
    people = np.unique([image["person"] or image["name"] for image in images], return_inverse=True)[1]
    names = hashlib.sha256("\n".join(image["name"] for image in images).encode()).hexdigest()
    return {"names": names, "people": people.tolist()} | {label: [image[label] for image in images] for label in LABELS}


def _labelled(path: Path, images: Sequence[Mapping[str, Any]], evaluated: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Scores of `maskgan score` with what those of `maskgan evaluate` know of the images: their names, people and labels."""
    if not evaluated:
        raise UserError(f"{path} does not tell who is in the pictures; put scores of `maskgan evaluate` beside it, as `input/`")
    known = {picture_name(number, image["name"]): image for number, image in enumerate(evaluated)}
    of_name = {image["name"]: image for image in images}
    if known.keys() != of_name.keys():
        raise UserError(
            f"{path} is of pictures with other names than `maskgan evaluate --pictures` gives to the test images; score what "
            "was made from these, under their names"
        )
    return [of_name[name] | {key: image[key] for key in ("name", "person", *LABELS)} for name, image in known.items()]


def _columns(
    images: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, str, bool]]
) -> dict[str, list[float | None]]:
    def rounded(value: float | None, form: str) -> float | None:
        digits = int(form[1])
        return None if value is None else round(value, digits) if digits else round(value)

    names = [name for name in columns if name in COLUMNS or name in images[0]]
    return {name: [rounded(image[name], columns[name][1]) for image in images] for name in names}


def _curves(workdir: Path) -> dict[str, list[list[float]]]:
    """{curve: [epochs, values]} of a run's log."""
    with _naming(workdir / CONFIG):
        settings = _read(workdir / CONFIG)["training"]
        epochs, validate_every = settings["epochs"], settings["validate_every"]
    with _naming(workdir / METRICS, "log of a run of `maskgan train` with a validation"):
        train, validation = (read_curves(workdir, phase) for phase in ("train", "validation"))
        first, last = validation["mse_masked"][0][0], train["l1"][0][-1]
        # Not by its end, where a log may lack lines, if the first validation is after an epoch, or at the end of a shorter run.
        epochs_per_step = epochs / last if validate_every else min(1, epochs) / first
        logged = train | {"mse_masked": validation["mse_masked"]}
        curves = {}
        for name in (name for name in CURVES if name in logged):
            steps, values = logged[name]
            curves[name] = [[round(step * epochs_per_step, 3) for step in steps], [float(f"{value:.4g}") for value in values]]
    return curves


def scores_of(collected: Mapping[str, Any], output: str) -> dict[str, Scores]:
    """The scores of all systems, of their `raw` output or of the `composite`."""
    images = collected["images"]
    people, labels = np.array(images["people"]), {label: np.array(images[label]) for label in LABELS}
    return {
        name: Scores({column: np.array(values, float) for column, values in system[output].items()}, people, labels)
        for name, system in collected["systems"].items()
    }


def resampled(values: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Means of `values` `[N]` over bootstrap samples of people, `[SAMPLES]`; values that are NaN are left out."""
    known = ~np.isnan(values)
    count = people.max() + 1
    sums = np.bincount(people[known], values[known], count)
    sizes = np.bincount(people[known], minlength=count)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), SAMPLES)
    return weighted_mean(sums / np.maximum(sizes, 1), drawn * sizes)


def table(systems: Mapping[str, Scores], columns: Mapping[str, tuple[str, str, bool]]) -> Iterator[str]:
    """Means with intervals."""
    yield "| system | " + " | ".join(f"{title} {'↓' if less else '↑'}" for title, _, less in columns.values()) + " |"
    yield "|---|" + "--:|" * len(columns)
    for name, scores in systems.items():
        cells = []
        for column, (_, form, _) in columns.items():
            if column not in scores.values:
                cells.append("")
                continue
            low, high = interval(resampled(scores.values[column], scores.people))
            cells.append(f"{np.nanmean(scores.values[column]):{form}} ({low:{form}} to {high:{form}})")
        yield f"| {name} | " + " | ".join(cells) + " |"


def differences(systems: Mapping[str, Scores], base: str, columns: Mapping[str, tuple[str, str, bool]]) -> Iterator[str]:
    """Paired differences to `base` in per cent of it, with intervals; those whose interval has no 0 are bold.

    A run with another seed is compared with that of `base` with the same seed, if there is one.
    """
    yield "| system | " + " | ".join(title for title, *_ in columns.values()) + " |"
    yield "|---|" + "--:|" * len(columns)
    for name, scores in systems.items():
        if name == base:
            continue
        of_seed = base + "".join(name.partition(SEED)[1:])
        compared = of_seed if of_seed in systems and of_seed != name else base
        cells = []
        for column in columns:
            if not all(column in each.values for each in (systems[compared], scores)):
                cells.append("")
                continue
            theirs, ours = (each.values[column] for each in (systems[compared], scores))
            # Only images of which both have a score: paired, and those that one lacks are the difficult ones.
            theirs, ours = np.where(np.isnan(ours), np.nan, theirs), np.where(np.isnan(theirs), np.nan, ours)
            samples = 100 * (resampled(ours, scores.people) / resampled(theirs, systems[compared].people) - 1)
            low, high = interval(samples)
            cell = f"{100 * (np.nanmean(ours) / np.nanmean(theirs) - 1):+.2f} ({low:+.2f} to {high:+.2f})"
            cells.append(f"**{cell}**" if low > 0 or high < 0 else cell)
        yield f"| {name if compared == base else f'{name} to {compared}'} | " + " | ".join(cells) + " |"


def differences_of_paper(base: str) -> Iterator[str]:
    """Rows for `differences`: those between the systems in the paper, of `COLUMNS`; none of a base that it does not have."""
    for name, values in OF_PAPER.items():
        if base in OF_PAPER and name != base:
            cells = [f"{100 * (ours / theirs - 1):+.2f}" for ours, theirs in zip(values, OF_PAPER[base], strict=True)]
            yield f"| *{name} in the paper, and its LPIPS* | " + " | ".join(cells) + " |"


def by_label(systems: Mapping[str, Scores], label: str, columns: Sequence[str]) -> Iterator[str]:
    """Means by source, or by another label; of several scores in one cell. A system that lacks one has no such mean."""
    groups = sorted(set(next(iter(systems.values())).labels[label]))
    first = next(iter(systems.values())).labels[label]
    yield "| system | " + " | ".join(f"{group or 'none'} ({(first == group).sum()})" for group in groups) + " |"
    yield "|---|" + "--:|" * len(groups)
    for name, scores in systems.items():
        known = {column: (COLUMNS | MORE_COLUMNS)[column][1] for column in columns if column in scores.values}
        cells = []
        for group in groups:
            of_group = scores.labels[label] == group
            cells.append(", ".join(f"{np.nanmean(scores.values[column][of_group]):{form}}" for column, form in known.items()))
        yield f"| {name} | " + " | ".join(cells) + " |"


def drops(collected: Mapping[str, Any]) -> Iterator[str]:
    """The MSE in the mask on other test sets, over that on the experiment's own; of the composite."""
    systems = collected["systems"]
    others = sorted({other for system in systems.values() for other in system["others"]})
    yield "| system | own masks | " + " | ".join(others) + " |"
    yield "|---|--:|" + "--:|" * len(others)
    for name, system in systems.items():
        own = np.mean(system["composite"]["mse_masked"])
        there = [system["others"].get(other) for other in others]
        cells = ["" if mean is None else f"{mean:.0f} ({mean / own:.2f})" for mean in there]
        yield f"| {name} | {own:.0f} | " + " | ".join(cells) + " |"


def costs(collected: Mapping[str, Any]) -> Iterator[str]:
    """Milliseconds a picture where all others were measured, and millions of weights."""
    yield "| system | ms a picture, in batches of 8; OpenCV's one by one | million weights |"
    yield "|---|--:|--:|"
    for name, system in collected["systems"].items():
        if name != "input":
            weights = f"{system['parameters'] / 1e6:.2f}" if system["parameters"] else ""
            seconds = system["seconds_per_image"]
            yield f"| {name} | {'' if seconds is None else f'{1e3 * seconds:.1f}'} | {weights} |"


def by_epoch(epochs: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    """The paper's Table 1: scores of the proposed method's raw output after some epochs."""
    yield "| run | epochs | " + " | ".join(f"{title} {'↓' if less else '↑'}" for title, _, less in COLUMNS.values()) + " |"
    yield "|---|--:|" + "--:|" * len(COLUMNS)
    for title, of_run in epochs.items():
        for epoch, means in of_run.items():
            cells = [f"{means[column]:{form}}" for column, (_, form, _) in COLUMNS.items()]
            yield f"| {title} | {epoch} | " + " | ".join(cells) + " |"
    for epoch, values in OF_PAPER_BY_EPOCH.items():
        yield f"| *the paper, 256 px, and its LPIPS* | {epoch} | " + " | ".join(map(str, values)) + " |"


def needed(networks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What the networks that systems need do on the test split."""
    if "landmarks" in networks:
        bare, masked = (networks["landmarks"][name] for name in ("unmasked", "masked"))
        yield (
            f"The landmark network that C1 looks through is {bare['error']:.4f} from dlib on bare faces, on masked ones "
            f"{masked['error']:.4f}; its contour {bare['contour']:.4f} and {masked['contour']:.4f} (means, over the distance "
            "between the eyes)."
        )
    if "map" in networks:
        yield (
            f"`yi`'s map module finds masks with an intersection over union of {networks['map']['iou']:.4f}, and takes "
            f"{100 * networks['map']['false_alarm']:.2f} % of the picture of a bare face for a mask (means)."
        )


def report(collected: Mapping[str, Any]) -> str:
    """All tables. Raises UserError if `pix2pix`, with which the systems are compared, is not among them."""
    if "pix2pix" not in collected["systems"]:
        raise UserError("there are no scores of pix2pix, with which the systems are compared; run the experiment first")
    raw, composite = scores_of(collected, "raw"), scores_of(collected, "composite")
    images, people = len(raw["pix2pix"].people), raw["pix2pix"].people.max() + 1
    parts: list[Sequence[str] | Iterator[str]] = [
        [f"{images} test images of {people} people; means, and 95 % bootstrap intervals over people."],
        [line for each in needed(collected["networks"]) for line in ("", each)],
        ["", "## Table 2: what the generator draws", ""],
        table(raw, COLUMNS),
        ["", "## Table 2: the composite", ""],
        table(composite, COLUMNS),
        ["", "## More scores, of the composite", ""],
        table(composite, MORE_COLUMNS),
        ["", "## Cost", ""],
        costs(collected),
    ]
    for base in (base for base in BASES if base in raw):
        parts += [["", f"## Difference to {base}, per cent: what the generator draws", ""]]
        parts += [differences(raw, base, COLUMNS), differences_of_paper(base)]
        parts += [["", f"## Difference to {base}, per cent: the composite", ""]]
        parts += [differences(composite, base, COLUMNS | MORE_COLUMNS)]
    for label, (title, columns) in LABELS.items():
        scores = ", ".join((COLUMNS | MORE_COLUMNS)[column][0] for column in columns)
        parts += [["", f"## The composite by {title}: {scores}", ""], by_label(composite, label, columns)]
    if any(system["others"] for system in collected["systems"].values()):
        parts += [["", "## Masks unlike those trained on: MSE in the mask, and over that on own masks", ""], drops(collected)]
    if any(len(of_run) > 1 for of_run in collected["epochs"].values()):
        parts += [["", "## Table 1: the proposed method by epochs", ""], by_epoch(collected["epochs"])]
    return "\n".join(line for part in parts for line in part) + "\n"


def draw_curves(path: Path, curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> None:
    """Writes a PNG with a panel for each curve and a line for each run."""
    from matplotlib.figure import Figure

    colours = {name: f"C{number}" for number, name in enumerate(curves)}
    lines = {}
    drawn = {curve: title for curve, title in CURVES.items() if any(curve in of_run for of_run in curves.values())}
    rows = max(1, -(-len(drawn) // COLUMNS_OF_CURVES))
    figure = Figure((12, 3.25 * rows), layout="constrained")
    every = list(figure.subplots(rows, COLUMNS_OF_CURVES, squeeze=False).flat)
    for axes in every[len(drawn) :]:
        axes.remove()
    for axes, (curve, title) in zip(every, drawn.items(), strict=False):
        for name, of_run in curves.items():
            if curve in of_run:
                lines[name] = axes.plot(*of_run[curve], linewidth=1, color=colours[name])[0]
        axes.set(title=title, xlabel="epochs")
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
    figure.legend(list(lines.values()), list(lines), loc="outside right upper")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=80, format="png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, writes the page and what lies beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUNS",
        help="folder of tools/run_experiment.py, or FILE.json of this tool; of a system in several of them, the last counts",
    )
    parser.add_argument("--long", type=Path, metavar="RUNS", help="that of its experiment `table_1`")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.md")
    flags = parser.parse_args(arguments)
    if flags.out.suffix != ".md":
        raise UserError(f"--out={flags.out}: give a name that ends in .md, as FILE.json and FILE.png are written beside it")
    if flags.long and not (flags.long / "proposed" / "scores.json").is_file():
        raise UserError(
            f"--long={flags.long}: there is no proposed/scores.json; give the folder of `run_experiment.py table_1`"
        )
    if flags.long and all(path.is_file() for path in flags.runs):
        raise UserError("--long is read when scores are collected, and FILE.json has them already; leave it out")
    if not importlib.util.find_spec("matplotlib"):
        raise UserError("the figure needs matplotlib: pip install 'maskgan_jax[study]'")
    # Older files have no `networks`.
    parts = {path: {"networks": {}} | _read(path) if path.is_file() else collect(path, flags.long) for path in flags.runs}
    with _naming(" or ".join(map(str, parts))):
        collected = merged(parts)
        page = report(collected)
    check_writable(flags.out)
    above = flags.out.read_bytes().decode(errors="replace") if flags.out.is_file() else "# The paper's experiment\n\n" + TABLES
    if TABLES not in above:
        raise UserError(f"{flags.out} is no page of this tool; give another --out, or delete it")
    draw_curves(flags.out.with_suffix(".png"), collected["curves"])
    if flags.runs != [flags.out.with_suffix(".json")]:
        write_text(flags.out.with_suffix(".json"), json.dumps(collected, separators=(",", ":")) + "\n")
    write_text(flags.out, above.partition(TABLES)[0] + TABLES + "\n" + page)
    print(f"the report is in {flags.out}")


if __name__ == "__main__":
    sys.exit(exit_code("make_report", main))
