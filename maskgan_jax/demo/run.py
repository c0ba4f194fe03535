"""`maskgan demo`: rendered faces, a short training, scores and a report, in minutes and from nothing."""

from __future__ import annotations

import importlib.resources
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from maskgan_jax.config import read_config
from maskgan_jax.configs import default
from maskgan_jax.data.build.landmarks import largest_face_landmarks
from maskgan_jax.data.masks import DrawnMask, draw_mask
from maskgan_jax.demo.report import Section, bar, folded, image, line_chart, paragraph, table, write_report
from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image, write_json, write_png
from maskgan_jax.run_files import BEST, WALL_TIME, read_curves
from maskgan_jax.weights.fetch import weight_file

# Eileen Collins, NASA 1999, in the public domain; scikit-image's `astronaut`. SHOWN is the part that appears in the report.
PORTRAIT = Path(str(importlib.resources.files("maskgan_jax"))) / "data" / "portrait.jpg"
SHOWN = np.s_[0:280, 80:380]
# Seeds of the masks that are drawn on it.
PORTRAIT_MASKS = (0, 2, 3)

# What the demo's folder holds. The progress file has the settings, and the time of each stage and whether it is done.
PROGRESS, DATA, LANDMARKS, UNMASK, SCORES = "demo.json", "data", "landmarks", "unmask", "scores"

METHODS = ("input", "telea", "ours")
# {score: (heading, decimals)}. The arrow says which way is better.
METRICS = {
    "mse_masked": ("MSE in region ↓", 0),
    "psnr": ("PSNR, dB ↑", 2),
    "psnr_masked": ("PSNR in region, dB ↑", 2),
    "ssim": ("SSIM ↑", 3),
    "st_lpips": ("ST-LPIPS ↓", 3),
}
# The terms of the loss by the paper's names.
TERMS = {"adversarial": "GAN", "l1": "L1", "contour": "C1", "masked": "C2"}


def run_demo(out: Path, config: ConfigDict, landmark_config: ConfigDict) -> list[list[str]]:
    """Does the stages of the demo that are not done yet; writes `examples.png`, `portrait.png` and `report.html`.

    Args:
      out: the folder for everything: new, empty, or that of a demo with the same settings.
      config: settings of the data and of the mask remover; its `data.splits` are numbers of rendered faces.
      landmark_config: settings of the landmark network.

    Returns:
      The table of scores: headings, then a row for each method.

    Raises:
      UserError: `out` holds something else or cannot be written, or `maskgan weights` has not been run.
    """
    _prepare_folder(out, {"unmask": config.to_dict(), "landmarks": landmark_config.to_dict()})
    # If one is missing, better to say so before the training.
    for name in ("st_lpips_alex.safetensors", "centerface.onnx", "shape_predictor_68_face_landmarks.dat"):
        weight_file(name)

    def build() -> None:
        from maskgan_jax.data.build.build import build_data_set

        # If the demo was stopped right after the build, the data set is complete, but may be of other settings.
        if not (out / DATA / "masked_faces").exists():
            count = sum(sum(sources.values()) for sources in config.data.splits.values())
            build_data_set([f"rendered={count}"], config, out / DATA)
        elif read_config(out / DATA / "config.json").to_dict() != config.to_dict():
            raise UserError(f"the data set in {out / DATA} was built with other settings than the demo's; give another --out")

    def train(settings: ConfigDict, workdir: Path) -> None:
        from maskgan_jax.training.loop import train  # JAX takes seconds to start; the answer to a wrong --out should not.

        train(settings, out / DATA, workdir)

    def score() -> None:
        from maskgan_jax.metrics.evaluation import evaluate, write_examples

        write_examples(out / "examples.png", out / DATA, out / UNMASK)
        for method in METHODS:
            write_json(out / SCORES / f"{method}.json", evaluate(method, out / DATA, workdir=out / UNMASK))

    with_landmarks = config.copy_and_resolve_references()
    with_landmarks.landmark_net.weights = str(out / LANDMARKS)
    _stage(out, "draw faces and masks", out / DATA / "masked_faces", build)
    _stage(out, "train the landmark network", out / LANDMARKS / BEST, lambda: train(landmark_config, out / LANDMARKS))
    _stage(out, "train the mask remover", out / UNMASK / BEST, lambda: train(with_landmarks, out / UNMASK))
    _stage(out, "score on the test faces", out / SCORES / f"{METHODS[-1]}.json", score)
    _stage(out, "unmask a photo", out / "portrait.png", lambda: write_portrait(out / "portrait.png"))

    scores = {method: _read_json(out / SCORES / f"{method}.json") for method in METHODS}
    headings = ["", *(heading for heading, _ in METRICS.values())]
    rows = [
        _row("masked input as it is", scores["input"]),
        _row("Telea's inpainting", scores["telea"]),
        _row("ours", scores["ours"]),
        _row("ours, known pixels put back", scores["ours"]["put_back"]),
    ]
    _write_report(out, config, landmark_config, table(headings, rows), _comparison(scores))
    return [headings, *rows]


def masked_portrait(seed: int = PORTRAIT_MASKS[0]) -> DrawnMask:
    """The portrait, `[512, 512, 3]`, with a mask drawn on it. Raises UserError if `maskgan weights` has not been run."""
    photo = read_image(PORTRAIT)
    return draw_mask(photo, largest_face_landmarks(photo), np.random.default_rng(seed), default.get_config().data)


def write_portrait(path: Path) -> None:
    """Writes a PNG of a portrait, a row for each mask: with the mask drawn on it, unmasked by `maskgan unmask`, as it is.

    Raises:
      UserError: the package or the cache lacks a network, or the file cannot be written.
    """
    from maskgan_jax.unmasking.unmasker import Unmasker

    unmasker = Unmasker.from_pretrained()
    photo = read_image(PORTRAIT)
    rows = []
    for seed in PORTRAIT_MASKS:
        masked = masked_portrait(seed).image
        rows.append([picture[SHOWN] for picture in (masked, unmasker(masked), photo)])
    write_png(path, np.concatenate([np.concatenate(row, axis=1) for row in rows]))


def _prepare_folder(out: Path, settings: dict[str, Any]) -> None:
    """Makes `out` the folder of a demo with these settings, unless it is one already."""
    settings = json.loads(json.dumps(settings))  # As they are read back: tuples become lists.
    try:
        out.mkdir(parents=True, exist_ok=True)
        holds_something = any(out.iterdir())
    except OSError as error:
        raise UserError(f"cannot use {out} for the demo ({error.strerror}); give another --out") from error
    if not holds_something:
        write_json(out / PROGRESS, {"settings": settings, "stations": {}})
    elif not (out / PROGRESS).exists():
        raise UserError(f"{out} holds something other than a demo; give a new folder as --out")
    elif _read_json(out / PROGRESS).get("settings") != settings:
        raise UserError(f"{out} holds a demo with other settings; give another --out, or delete that one")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}); give another --out, to begin a demo anew") from error


def _stage(out: Path, name: str, result: Path, work: Callable[[], None]) -> None:
    """Does one stage of the demo, unless it is done and its result is there; adds up the time of all attempts."""
    progress = _read_json(out / PROGRESS)
    stage = progress["stations"].setdefault(name, {"seconds": 0.0, "done": False})
    if stage["done"] and result.exists():
        print(f"{name}: done before, in {stage['seconds']:.0f} s", flush=True)
        return
    print(f"{name} ...", flush=True)
    begun = time.monotonic()
    try:
        work()
        stage["done"] = True
    finally:
        stage["seconds"] += time.monotonic() - begun
        write_json(out / PROGRESS, progress)
    print(f"{name}: done in {stage['seconds']:.0f} s", flush=True)


def _row(name: str, scores: Mapping[str, float]) -> list[str]:
    return [name, *(f"{scores[metric]:.{digits}f}" for metric, (_, digits) in METRICS.items())]


def _comparison(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Says by which scores the network is better than the two simple methods."""

    def better(own: Mapping[str, float], other: Mapping[str, float]) -> str:
        won = []
        for metric, (heading, _) in METRICS.items():
            if own[metric] > other[metric] if heading.endswith("↑") else own[metric] < other[metric]:
                won.append(heading.rstrip(" ↑↓").removesuffix(", dB"))
        return {0: "none of the scores", len(METRICS): "all scores"}.get(len(won), ", ".join(won))

    return " ".join(
        f"{subject} is better than the masked input by {better(own, scores['input'])}, and than Telea's inpainting by "
        f"{better(own, scores['telea'])}."
        for subject, own in (("Its output", scores["ours"]), ("The known pixels put back, it", scores["ours"]["put_back"]))
    )


def _write_report(out: Path, config: ConfigDict, landmark_config: ConfigDict, scores: str, comparison: str) -> None:
    stages = _read_json(out / PROGRESS)["stations"]
    card = _read_json(out / DATA / "card.json")
    test = card["splits"]["test"]
    minutes = stages["train the mask remover"]["seconds"] / 60
    size = config.data.size
    what = {
        "draw faces and masks": f"{card['records']} faces of {size} x {size} px",
        "train the landmark network": f"width {landmark_config.landmark_net.width}, {landmark_config.training.epochs:g} epochs "
        f"in batches of {landmark_config.input.batch_size}",
        "train the mask remover": f"U-Net of width {config.generator.width}, {config.training.epochs:g} epochs "
        f"in batches of {config.input.batch_size}; {_loss_in_words(config)}",
        "score on the test faces": f"{test['records']} faces of {test['identities']} people who are not in the training split",
        "unmask a photo": "the networks that come with the package, which `maskgan unmask` uses",
    }
    introduction = paragraph(
        f"A network that removes masks from faces, trained here in {minutes:.1f} minutes on rendered faces, with the loss of "
        "Yoshihashi et al. (2022): a GAN with L1 and two terms of their own, C1 for the contour of the face and C2 for the "
        "pixels that the mask hides."
    )
    sections = [
        Section(
            "Test faces",
            image(
                read_image(out / "examples.png"),
                "Masked; filled in by Telea's method; the network's output; the output with the known pixels put back; the "
                "truth. None of these people is in the training split; the faces were taken evenly, not chosen.",
            ),
        ),
        Section(
            "A photo",
            image(
                read_image(out / "portrait.png"),
                "Masks drawn on a portrait (Eileen Collins, NASA, public domain); what maskgan unmask, with the networks that "
                "come with the package, makes of it; the portrait. What it draws is a plausible face, not the person's own.",
            ),
        ),
        Section(
            "Scores",
            scores
            + paragraph(
                "Means over the test faces, on images of 0 to 255; arrow up: higher is better; down: lower is better. MSE is "
                "summed over red, green and blue per hidden pixel. The network redraws the whole image; it is scored as it is, "
                "as in the paper, and with the known pixels put back. The other two change nothing outside the region."
            ),
        ),
        Section(
            "What the numbers mean",
            paragraph(
                "They show that every part works, and how far a network gets in minutes on people it has never seen. "
                f"{comparison} They show no more than that. The faces are rendered, and training and test faces come from the "
                "same renderer, with the same kinds of masks; they are small; and training took minutes. Nothing here is "
                "comparable with the paper's tables, and this network is useless for photos."
            )
            + paragraph(
                "Telea's method and the step that puts the known pixels back get the exact mask; the network itself does not. "
                "It cannot know what is under a mask, only what is likely: expect the right skin, shape and light, and a "
                "plausible mouth, not the true one."
            ),
        ),
        Section(
            "What was done",
            table(
                ["part", "with", "seconds"],
                [[name, what[name], f"{stage['seconds']:.0f}"] for name, stage in stages.items()],
                words=True,
            )
            + folded("All settings of the mask remover", config.to_json(indent=2))
            + folded("All settings of the landmark network", landmark_config.to_json(indent=2)),
        ),
        Section("Training", _charts(out) + _wall_time(out)),
        Section(
            "Data",
            table(
                ["split", "faces", "people", "masks"],
                [
                    [
                        split,
                        str(counts["records"]),
                        str(counts["identities"]),
                        ", ".join(f"{kind} {count}" for kind, count in counts["mask_types"].items()),
                    ]
                    for split, counts in card["splits"].items()
                ],
                words=True,
            )
            + image(
                read_image(out / DATA / "contact_sheet.png"),
                "Real, masked, the hidden region, and the landmarks (contour in red).",
            ),
        ),
    ]
    write_report(out / "report.html", "Removing masks from faces: the demo", introduction, sections)


def _loss_in_words(config: ConfigDict) -> str:
    return "loss " + " + ".join(f"{config.losses[term]:g} {name}" for term, name in TERMS.items())


def _charts(out: Path) -> str:
    """Charts of the metrics that both trainings logged."""
    losses, scores = read_curves(out / UNMASK, "train"), read_curves(out / UNMASK, "validation")
    landmarks = read_curves(out / LANDMARKS, "validation")
    return (
        line_chart(
            {name: losses[f"weighted_{term}"] for term, name in TERMS.items()},
            "The terms of the mask remover's loss, weighted (Eq. 3).",
        )
        + line_chart(
            {"known pixels put back": scores["psnr"], "output": scores["psnr_raw"]},
            "PSNR on the validation split, dB.",
        )
        + line_chart(
            {"mask remover": scores["mse_masked"]},
            "MSE in the region on the validation split. The network with the least is kept.",
        )
        + line_chart(
            {"masked": landmarks["error_masked"], "unmasked": landmarks["error_unmasked"]},
            "Error of the landmark network on the validation split, in distances between the eyes.",
        )
    )


def _wall_time(out: Path) -> str:
    """Where the time of both trainings went."""
    return "".join(
        bar(_read_json(out / run / WALL_TIME)["seconds"], f"Seconds of the training of the {network}.")
        for run, network in ((UNMASK, "mask remover"), (LANDMARKS, "landmark network"))
    )
