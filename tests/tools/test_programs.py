"""What is the same for all programs of tools/."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from maskgan_jax.errors import UserError

FOLDER = Path(__file__).parents[2] / "tools"
WRONG = {
    "compare_networks": ["/nowhere", "--data_dir=/nowhere", "--metrics=detail"],
    "compile_for_tpu": ["--topology=v5e:4x4", "--config=/nowhere"],
    "draw_figures": ["/nowhere", "--data_dir=/nowhere", "--out=/nowhere"],
    "draw_templates": ["/proc/nowhere"],
    "faults": ["load", "--photos=/nowhere"],
    "fuzz": ["config", "--cases=/proc/nowhere"],
    "list_licences": ["/nowhere", "--out=/nowhere.md"],
    "make_report": ["/nowhere", "--out=/nowhere/results.md"],
    "measure_build": ["--source=ffhq=/nowhere"],
    "measure_exports": ["--out=/proc/nowhere"],
    "measure_faces": ["/nowhere"],
    "measure_gradients": ["--config=default", "--data_dir=/nowhere", "--workdir=/nowhere", "--config.losses.contour=0.0"],
    "measure_mask_realism": ["--real=/nowhere", "--source=rendered=9", "--out=realism.json"],
    "measure_overheads": ["--config=default", "--data_dir=/nowhere", "--config.losses.contour=0.0"],
    "measure_page": ["/nowhere", "/nowhere.png"],
    "measure_records": ["--data_dir=/nowhere"],
    "measure_unmasking": ["photos", "/nowhere", "--out=/nowhere"],
    "retrain_shape_predictor": ["--data_dir=/nowhere", "--out=/nowhere.dat"],
    "run_experiment": ["large_batches", "--data_dir=/nowhere", "--out=/nowhere"],
    "train_with_pytorch": ["/nowhere", "--data_dir=/nowhere", "--out=/nowhere"],
    "show_masks": ["--source=folder=/nowhere", "--out=/nowhere/masks.png"],
}


def test_all_are_tried():
    assert WRONG.keys() == {path.stem for path in FOLDER.glob("*.py")}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_folder(name, load_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="/nowhere") as caught:
        load_tool(name).main(WRONG[name])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["measure_build", "show_masks"])
def test_as_a_program_it_ends_with_one_sentence_and_exit_code_1(name):
    done = subprocess.run([sys.executable, FOLDER / f"{name}.py", *WRONG[name]], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{name}: error: /nowhere is not a folder") and "Traceback" not in done.stderr


def test_every_program_ends_so():
    """Each would take seconds to start."""
    for name in WRONG:
        program = (FOLDER / f"{name}.py").read_text()
        assert re.search(rf'\nif __name__ == "__main__":\n(    .*\n)*    sys.exit\(exit_code\("{name}", main\)\)\n$', program)


@pytest.mark.parametrize("name", ["measure_build", "show_masks"])
def test_wrong_settings(name, load_tool):
    with pytest.raises(UserError, match="unknown argument"):
        load_tool(name).main(["--source=rendered=2", "--out=masks.png", "--colour=red"])
