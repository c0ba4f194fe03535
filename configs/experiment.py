"""The data of the paper's experiment at 128 px, from photos that can be had.

maskgan build --config=configs/experiment.py --source=folder=DIR --data_dir=DATA
python tools/run_experiment.py paper --data_dir=DATA --out=RUNS

The systems take sizes, batch, learning rate, epochs and arithmetic from this config, as it is saved in DATA.

DIR has SCUT-FBP5500, All-Age-Faces (for FFHQ), UTKFace, and acted expressions of several performers (for KDEF), named `scut`,
`aaf`, `utkface` and `expressions` in its faces.csv.
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import _mask_sets, cpu, default


def get_config() -> ConfigDict:
    """The paper's proportions: 5,600 pairs for training; 1,400, 588 and 343 for testing. Nobody is in two splits.

    The pictures of expressions are split by performers: those that the test set leaves, about 635, are all trained on.
    """
    config = cpu.get_config()
    config.data.update(_mask_sets.PAPER)
    config.data.splits = default.splits(
        train={"scut": 2160, "aaf": 2155, "utkface": 650, "expressions": 1.0},
        test={"scut": 700, "aaf": 700, "expressions": 588, "utkface": 343},
        validation={"scut": 100, "aaf": 100, "utkface": 50},
    )
    return config
