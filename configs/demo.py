"""What `maskgan demo` runs: the proposed loss on rendered faces of 64 px, sized for five minutes on two CPU cores.

configs/demo_landmarks.py is for the landmark network that it trains first.
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import _mask_sets, default


def get_config() -> ConfigDict:
    """The proposed method, as small as it still shows something."""
    config = default.get_config()
    config.data.size = 64
    # Two faces to a person. As many are rendered as there are here.
    config.data.splits = default.splits(train={"rendered": 1000}, validation={"rendered": 40}, test={"rendered": 100})
    # In minutes no print is learnt; these masks are plain.
    config.data.update(_mask_sets.SEEN)
    config.data.mask_patterns = {"plain": 1.0}
    config.input.batch_size = 16
    config.generator.width = 24
    # In 1,240 steps nothing is learnt by heart; dropout would only cost time.
    config.generator.dropout = 0.0
    config.discriminator.width = 24
    # In minutes the discriminator wins, and its gradient, the largest of all (docs/losses.md), draws noise: less of it.
    config.losses.adversarial = 0.1
    config.optimizer.learning_rate = 5e-4
    # The average of about the last 100 steps draws calmer images.
    config.optimizer.ema = 0.99
    config.training.epochs = 20.0
    config.training.validate_every = 124
    config.training.checkpoint_every = 124
    config.training.keep = 1
    return config
