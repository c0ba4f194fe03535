"""What a run is made of, as its `config.json` tells it, and whether a run may go on with what it is given now.

`config.json` holds all settings, those of the data as the data set was built with, and `digests`: of the data set and of each
frozen network that the losses look through. A run goes on only with the same ones.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from maskgan_jax.config import changed_settings, read_config, read_digests, save_config, settings_gone
from maskgan_jax.data.masked_faces.reader import config_of, digest_of, has_config
from maskgan_jax.errors import UserError
from maskgan_jax.run_files import BEST, CHECKPOINTS, CONFIG
from maskgan_jax.storage import steps_in
from maskgan_jax.training.state import Task, Tree

# Settings that do not affect what a run computes.
MAY_CHANGE = (
    "input.prefetch",
    "input.processes",
    "input.threads",
    "training.checkpoint_every",
    "training.fsdp",
    "training.keep",
    "training.keep_epochs",
    "training.log_every",
    "training.minutes",
    "training.peak_tflops",
    "training.pictures",
    "training.profile",
    "training.remat",
    "training.validate_every",
)
# These change what is learnt from then on: they may change too, and the run tells so.
MAY_CHANGE_WITH_NOTICE = {
    "training.epochs": "the learning rate follows from the length",
    "training.steps": "the learning rate follows from the length",
    "training.compute": "the arithmetic is another one",
    "training.not_finite": "batches whose numbers are not finite are treated in another way",
    "optimizer.accumulate": "norms and random draws are those of other parts of a batch",
    "training.validation_records": "the best network is chosen by scores on other records",
}


def with_data_of(config: ConfigDict, data_dir: str | Path) -> tuple[ConfigDict, list[str]]:
    """A copy of the config whose section `data` is that of the data set, which was built with it; the settings that differ."""
    true = config.copy_and_resolve_references()
    if has_config(data_dir):  # It may have been left behind.
        with true.unlocked():
            true.data = config_of(data_dir).data
    return true, list(changed_settings(config, true))


def digests(task: Task, data_dir: str | Path) -> dict[str, str]:
    """SHA-256 of what a run works with beside its config: `data`, and each frozen network by its name.

    At its beginning a run also notes `initial_variables`, of what `generator.weights` names.
    """
    return {"data": digest_of(data_dir)} | {name: digest_tree(tree) for name, tree in task.frozen.items() if tree}


def digest_tree(tree: Tree) -> str:
    """SHA-256 of the names, shapes and values of all arrays of a tree."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}\n".encode())
        digest.update(array)
    return digest.hexdigest()


def has_checkpoints(workdir: Path | epath.Path) -> bool:
    """Whether a run in this folder has a whole checkpoint to resume from, or a result."""
    return any(steps_in(workdir / folder) for folder in (CHECKPOINTS, BEST))


def check(config: ConfigDict, task: Task, now: dict[str, str], workdir: Path | epath.Path) -> list[str]:
    """Compares a run with what it was begun with, if it was.

    Args:
      config: the settings now.
      task: what is trained; `sections` are those of the config that count for it.
      now: the digests now.
      workdir: of the run.

    Returns:
      For each setting that changes what is learnt from now on, a sentence that says so.

    Raises:
      UserError: the run was begun with other settings, other data or other frozen networks.
    """
    saved = workdir / CONFIG
    if not has_checkpoints(workdir):
        return []
    if not saved.exists():
        raise UserError(f"{saved} is missing, and without it the run cannot resume; restore it, or give another --workdir")
    if gone := settings_gone(saved):
        told = ", ".join(f"{key} {value!r}" for key, value in gone.items())
        raise UserError(
            f"the run in {workdir} began with another version of this program, whose settings {told} are none now; go on with "
            "that version, or give another --workdir"
        )
    before = read_digests(saved)
    for name in sorted((before.keys() | now.keys()) - {"initial_variables"}) if before else ():
        if before.get(name) != now.get(name):
            what = {"data": "data set", "landmark_net": "landmark network (landmark_net.weights)"}.get(name, f"network {name}")
            how = "another" if name in before and name in now else "no" if name in now else "a"
            raise UserError(f"the run in {workdir} began with {how} {what}; go on with the same, or give another --workdir")
    changes = {
        key: values
        for key, values in changed_settings(read_config(saved), config).items()
        if key not in MAY_CHANGE and _counts(key, task, before)
    }
    if refused := [f"{key} {old!r} (now {new!r})" for key, (old, new) in changes.items() if key not in MAY_CHANGE_WITH_NOTICE]:
        raise UserError(
            f"the run in {workdir} began with {', '.join(refused)}; go on with its settings, or give another --workdir"
        )
    return [
        f"{key} is {new!r} from now on (it was {old!r}): {MAY_CHANGE_WITH_NOTICE[key]}" for key, (old, new) in changes.items()
    ]


def _counts(key: str, task: Task, before: dict[str, Any]) -> bool:
    """Whether a setting has a part in what this task computes; paths of networks have none, their digests tell."""
    section = key.partition(".")[0]
    if section == "data":  # Runs of before there were digests have nothing else to compare.
        return "data" not in before
    return section in (*task.sections, "task", "seed", "input", "optimizer", "training") and not key.endswith(".weights")


def write_config(config: ConfigDict, now: dict[str, str], workdir: Path | epath.Path, *, begins: bool) -> None:
    """Writes `config.json`, unless it says the same already; what a run began with is kept when it goes on."""
    path = workdir / CONFIG
    if path.exists() and not begins:
        saved, before = read_config(path), read_digests(path)
        config = config.copy_and_resolve_references()
        config.generator.weights = saved.generator.weights
        now = now | {name: digest for name, digest in before.items() if name == "initial_variables"}
        if saved.to_dict() == config.to_dict() and before == now:
            return
    save_config(path, config, now)
