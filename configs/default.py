"""Every setting there is, with its default: the paper's method at the paper's size. Other files here change a few of them.

maskgan_jax/config_checks.py has the values that are allowed.
"""

from ml_collections import ConfigDict

from maskgan_jax.configs import _mask_sets


def get_config() -> ConfigDict:
    """The proposed method of Yoshihashi et al. (2022): pix2pix at 256 px, width 64, with the C1 and C2 losses."""
    config = ConfigDict()

    # What is trained: 'unmask' (the GAN of the paper), 'landmarks' (the network that the C1 loss looks through) or
    # 'segmentation' (the network that finds the mask in a photo).
    config.task = "unmask"
    # Seed of everything random: data, initial weights, order of the records, dropout.
    config.seed = 0

    # ---- data set: used by `maskgan build` ----
    config.data = data = ConfigDict()
    # Side of the aligned faces, in pixels; a power of two from 64 to 4096. The networks are built for the same size.
    data.size = 256
    # How many times smaller than FFHQ's the square around a face is, which keeps its lower edge: 1 is FFHQ's; with more, hair
    # and background are left out, and what masks hide gets more pixels.
    data.zoom = 1.0
    # Which part of each source goes where: {split: {source: share}}; '*' stands for every source not named. A float is the
    # share of the identities (from a hash, so that adding photos moves nobody); an int is an exact number of photos. An
    # identity is in one split only. What is left over is used nowhere.
    data.splits = splits(train={"*": 0.8}, validation={"*": 0.05}, test={"*": 0.15})
    # Camera angles taken from KDEF: FL, HL, S (straight), HR, FR.
    data.kdef_angles = ("S",)
    # dlib shape predictor with 68 points; '' is the stock one that `maskgan weights` fetches.
    data.shape_predictor = ""
    # The masks that are drawn, as {type: weight}: surgical, n95, kn95, cloth, gaiter, bandana, and 'template' (from
    # `mask_templates`). configs/_mask_sets.py has named sets of types and patterns.
    data.masks = ConfigDict(_mask_sets.VARIED["masks"], type_safe=False)
    # What is printed on masks of cloth, as {pattern: weight}: plain, stripes, checks, dots, flowers, camouflage.
    data.mask_patterns = ConfigDict(_mask_sets.VARIED["mask_patterns"], type_safe=False)
    # Folder of MaskTheFace-style templates (masks.cfg and RGBA images); '' if there is none.
    data.mask_templates = ""
    # How a flat mask is put on a face: 'mesh' follows the jaw and the nose; 'homography' goes by six points, as in the paper.
    data.mask_fit = "mesh"
    # How much the wearing varies from face to face: shift and height on the nose (shares of the face's width), rotation
    # (degrees), scale.
    data.mask_shift = 0.03
    data.mask_rotation = 3.0
    data.mask_scale = 0.06
    data.mask_height = 0.03
    # The loosest that a mask may hang, from 0 (tight) to 1, and the share of masks that are worn below the nose.
    data.mask_looseness = 1.0
    data.mask_below_nose = 0.02

    # ---- input pipeline ----
    config.input = inputs = ConfigDict()
    # Records per step over all devices and processes.
    inputs.batch_size = 16
    # Mirror half of the images (target, mask and landmarks with them).
    inputs.flip = True
    # pix2pix's jitter: enlarge by this factor (286 / 256 in the paper's predecessor) and crop back; 1.0 leaves faces aligned.
    inputs.jitter = 1.0
    # How badly a face may be aligned: the most by which it is turned (radians), scaled and shifted (share of the side).
    inputs.misalignment = 0.0
    # The most by which the region is grown, in pixels: it is found less exactly in photos than it is known of drawn masks.
    inputs.grow_region = 0
    # Fraction of the records that get another region than the drawn mask's, and hide a part of the real image instead: for
    # generators that inpaint.
    inputs.vary_region = 0.0
    # Fraction of the records that get hands, hair or things in front of the face, in both images; they are no part of the mask.
    inputs.occlude = 0.0
    # The most by which gamma, contrast and brightness change, in both images alike.
    inputs.light = 0.0
    # Fraction of the records whose images are blurred, noisy or compressed as a worse camera's are.
    inputs.degrade = 0.0
    # Reader threads in each process; each reads one batch (the process's share of it) at a time.
    inputs.threads = 4
    # Reader processes in place of threads, for accelerators that threads of one process cannot keep busy; 0: threads.
    inputs.processes = 0
    # Records read ahead in each process; at least a batch for each thread is (a record of 256 px takes 459 KB).
    inputs.prefetch = 64

    # ---- networks ----
    config.generator = generator = ConfigDict()
    # 'unet' (pix2pix's) or 'residual' (a U-Net of five scales with residual blocks and attention, which always inpaints);
    # maskgan_jax/models/generators.py has all of them.
    generator.architecture = "unet"
    # Channels of the first layer; deeper ones have up to eight times as many (pix2pix: 64).
    generator.width = 64
    # Of 'residual': residual blocks at each of the two smallest scales.
    generator.blocks = 4
    # 'instance' (per image; no traffic between devices), 'batch' (over the global batch) or 'none'.
    generator.norm = "instance"
    # Dropout in the decoder: probability, and the sides in pixels of the feature maps it acts on. pix2pix in PyTorch: 4, 8,
    # 16; in Lua and TensorFlow: 2, 4, 8. It acts in training only, so that an image always gives the same result.
    generator.dropout = 0.5
    generator.dropout_sides = (4, 8, 16)
    # Of the decoder: 'transposed' (pix2pix's 4x4 transposed convolutions) or 'nearest' (pixels are doubled, then convolved
    # with 3x3 kernels, which draws no checkerboards).
    generator.upsampling = "transposed"
    # Whether the generator is told the mask: it then sees the image without what is hidden, and the mask as a fourth channel;
    # outside the mask its output is the image itself, so that all losses look at the composite.
    generator.inpaints = False
    # What training begins with: the generator of another run (workdir or .safetensors), or '' for random weights.
    generator.weights = ""

    config.discriminator = discriminator = ConfigDict()
    # Channels of the first layer (pix2pix: 64).
    discriminator.width = 64
    # Strided layers after the first; 3 gives the patches of 70 x 70 pixels.
    discriminator.layers = 3
    # As for the generator. Always with the statistics of the batch at hand: it is only ever used in training.
    discriminator.norm = "instance"
    # Whether it sees all images moved and in other colours, generated and real ones alike (DiffAugment, Zhao et al. 2020).
    discriminator.augment = False

    config.landmark_net = landmark_net = ConfigDict()
    # Channels of the first layer.
    landmark_net.width = 32
    # For 'unmask': where the trained landmark network is (workdir or .safetensors); needed unless `losses.contour` is 0.
    landmark_net.weights = ""

    config.segmentation_net = segmentation_net = ConfigDict()
    # Channels of the first layer.
    segmentation_net.width = 16
    # For 'unmask' with generator.architecture='yi': where the trained segmentation network is (workdir or .safetensors).
    segmentation_net.weights = ""

    # ---- losses: weights of the terms of Eq. 3 ----
    config.losses = losses = ConfigDict()
    # The adversarial term, log D_fake.
    losses.adversarial = 1.0
    # lambda 1: mean absolute error over the whole image, on [-1, 1].
    losses.l1 = 100.0
    # lambda 2: C1 (Eq. 4), in pixels. docs/losses.md tells how this and lambda 3 were chosen.
    losses.contour = 0.06
    # lambda 3: C2 (Eq. 5), on the 0-255 scale.
    losses.masked = 0.002
    # The terms from here on are beyond the paper. Feature matching (Wang et al. 2018): mean absolute difference of what the
    # discriminator's layers make of the generated and of the real image.
    losses.feature_matching = 0.0
    # 1 - SSIM of the whole image.
    losses.ssim = 0.0
    # ST-LPIPS with AlexNet, and with VGG-16, between the generated and the real image, in a window of half the side about a
    # random hidden pixel.
    losses.perceptual = 0.0
    losses.perceptual_vgg = 0.0
    # Of the discriminator's loss: the squared norm of the gradient of its logits in the real image (R1, Mescheder et al.
    # 2018).
    losses.gradient_penalty = 0.0

    # ---- optimisation: Adam for both networks ----
    config.optimizer = optimizer = ConfigDict()
    optimizer.learning_rate = 2e-4
    optimizer.b1 = 0.5
    optimizer.b2 = 0.999
    # The rate is constant for this share of the steps and then falls linearly to 0.
    optimizer.constant = 0.5
    # What `learning_rate` is for: if `scaling` is 'linear' or 'sqrt', it is multiplied by input.batch_size / scaling_batch, or
    # by the root of that; 'none' takes it as it is.
    optimizer.scaling = "none"
    optimizer.scaling_batch = 16
    # Steps over which the rate rises to that, for large batches.
    optimizer.warmup = 0
    # Equal parts of a batch that go through the networks one after the other, their gradients averaged: a batch that does not
    # fit into memory then does.
    optimizer.accumulate = 1
    # Moving average of the network whose results count (weights and batch norm's statistics), used for validation and results:
    # what is kept of it in each step (less in the first ones: (1 + step) / (10 + step)); 0 turns it off.
    optimizer.ema = 0.0

    # ---- run: what of this may change when the run goes on is listed in maskgan_jax/training/resuming.py ----
    config.training = training = ConfigDict()
    # Length: in epochs of the training split, or in steps if `steps` is not 0.
    training.epochs = 300.0
    training.steps = 0
    # 'float32' or 'bfloat16' arithmetic in the networks; parameters and losses are float32 always.
    training.compute = "float32"
    # When a loss or a gradient of a batch is not finite: 'stop' ends the run and says where it came from; 'skip' leaves it out,
    # says which records it had and counts it as `skipped_batches` in the log (100 in a row end the run all the same).
    training.not_finite = "stop"
    # Devices that divide parameters, optimizer state and moving average among themselves (FSDP); with 1, each has them whole.
    training.fsdp = 1
    # Of 'unmask': keeps of a forward pass what its convolutions gave and computes the rest again for the gradients: a larger
    # batch fits into memory, and each step takes longer (docs/scaling.md). It changes nothing for the other, smaller networks.
    training.remat = False
    # The run saves and ends after so many minutes, to go on when it is started again (exit code 75); 0: it has all the time.
    training.minutes = 0.0
    # Peak of one device in `compute`, in TFLOP/s, for `flop_utilization` in the log; 0: as in runtime/chips.py, if it is there.
    training.peak_tflops = 0.0
    # First and last step of a profiler trace, which is written to `profile/` for XProf or TensorBoard, such as (10, 12); ()
    # for none.
    training.profile = ()
    # Steps between log lines, between validations (with images), between checkpoints; 0 for the last two: once an epoch.
    training.log_every = 50
    training.validate_every = 0
    training.checkpoint_every = 0
    # Epochs after which a checkpoint is saved, such as (10, 30, 100); it is kept as long as its epoch is in this list.
    training.keep_epochs = ()
    # Of 'unmask', the validation score whose smallest value makes a checkpoint the best one: 'mse_masked', which favours
    # blurred faces, or 'st_lpips'.
    training.best_by = "mse_masked"
    # Latest checkpoints kept, beside the best one.
    training.keep = 3
    # Records of the validation split that are scored (0: all), and faces shown in the image grids.
    training.validation_records = 0
    training.pictures = 8
    return config


def splits(**shares: dict[str, float | int]) -> ConfigDict:
    """A value for `data.splits`: {source: share} for `train`, `validation` and `test`; see there."""
    # Not type-safe: a share may become a count, and a count a share.
    return ConfigDict(shares, type_safe=False)
