import importlib.util
import json
import re
from collections import Counter

import jax
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.models.convolutions import compiling_for
from maskgan_jax.training.abstract import abstract_step
from maskgan_jax.training.check import task_of_shapes
from maskgan_jax.training.mesh import create_mesh

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the extra [tpu]")
SMALL = [
    *("--config.data.size=64", "--config.generator.width=4", "--config.discriminator.width=4"),
    "--config.landmark_net.width=4",
]
# As libtpu writes them: layouts in all types, names only for operands, numbers within long tuples.
PROGRAM = """
HloModule jit_train_step, is_scheduled=true

%fused_convolution (p.1: bf16[2,8,8,4], p.2: bf16[4,4,4,16]) -> bf16[2,4,4,16] {
  %p.1 = bf16[2,8,8,4]{3,2,1,0:T(8,128)(2,1)} parameter(0)
  %p.2 = bf16[4,4,4,16]{3,2,1,0:T(8,128)(2,1)S(1)} parameter(1)
  ROOT %convolution.1 = bf16[2,4,4,16]{3,0,2,1:T(2,128)(2,1)} convolution(%p.1, %p.2), window={size=4x4 stride=2x2}
}

%gathering (p.3: bf16[4,4,64]) -> bf16[4,4,512] {
  %p.3 = bf16[4,4,64]{2,1,0:T(8,128)} parameter(0)
  ROOT %all-gather.1 = bf16[4,4,512]{2,1,0:T(8,128)} all-gather(%p.3), dimensions={2}, metadata={op_name="jit(step)/gather"}
}

ENTRY %main (a: f32[2,16], b: bf16[2,8,8,4], c: bf16[4,4,4,16], d: bf16[4,4,64]) -> (f32[]) {
  %a = f32[2,16]{1,0:T(2,128)} parameter(0)
  %b = bf16[2,8,8,4]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  %c = bf16[4,4,4,16]{3,2,1,0:T(8,128)(2,1)} parameter(2)
  %d = bf16[4,4,64]{2,1,0:T(8,128)} parameter(3)
  %constant.1 = f32[]{:T(128)} constant(0)
  %async-start.1 = ((bf16[4,4,64]{2,1,0:T(8,128)}), bf16[4,4,512]{2,1,0:T(8,128)}, u32[]{:S(2)}) async-start(%d), calls=%gathering
  %all-reduce-start.1 = (f32[2,16]{1,0:T(2,128)}, f32[]{:T(128)}) all-reduce-start(%a, %constant.1), metadata={op_name="jit(step)/add"}
  %fusion.1 = bf16[2,4,4,16]{3,0,2,1:T(2,128)(2,1)} fusion(%b, %c), kind=kOutput, calls=%fused_convolution
  %async-done.1 = bf16[4,4,512]{2,1,0:T(8,128)} async-done(%async-start.1)
  %fusion.2 = bf16[2,4,4,16]{3,0,2,1:T(2,128)(2,1)} fusion(%b, %c), kind=kOutput, calls=%fused_convolution
  %all-reduce-done.1 = (f32[2,16]{1,0:T(2,128)}, f32[]{:T(128)}) all-reduce-done(%all-reduce-start.1)
  %convolution.2 = f32[2,2]{1,0:T(2,128)} convolution(%a, %a), dim_labels=bf_oi->bf
  %all-reduce.7 = (f32[4]{0:T(128)S(1)}, bf16[4,4,4,16]{3,2,1,0:T(8,128)(2,1)}, /*index=2*/f32[]{:T(128)}) all-reduce(%x, %c, /*index=2*/%constant.1), metadata={op_name="jit(step)/transpose(conv)/sum"}
  ROOT %tuple = (f32[]{:T(128)}) tuple(%constant.1)
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("compile_for_tpu")


def test_collectives_of_a_program(tool):
    gather, started, combined = tool.find_collectives(PROGRAM)
    assert (gather.kind, gather.asynchronous, gather.overlapping) == ("all-gather", True, 1)
    assert gather.tensors == (("bf16", (4, 4, 512)),) and gather.source == "jit(step)/gather"
    assert (started.kind, started.asynchronous, started.overlapping) == ("all-reduce", True, 2)
    assert started.tensors == (("f32", (2, 16)), ("f32", ()))
    assert (combined.kind, combined.asynchronous, combined.overlapping) == ("all-reduce", False, 0)
    assert combined.tensors == (("f32", (4,)), ("bf16", (4, 4, 4, 16)), ("f32", ()))
    assert tool.size_of(combined.tensors) == 16 + 2 * 1024 + 4


@pytest.mark.parametrize(
    ("dtype", "size"), [("pred", 6), ("s4", 3), ("u8", 6), ("f8e4m3fn", 6), ("bf16", 12), ("s64", 48), ("c64", 48), ("f32", 24)]
)
def test_sizes_of_all_types(tool, dtype, size):
    program = PROGRAM.replace("f32[2,16]", f"{dtype}[2,3]")
    _, started, _ = tool.find_collectives(program)
    assert started.tensors == ((dtype, (2, 3)), ("f32", ()))
    assert tool.size_of(started.tensors[:1]) == size
    assert tool.convolution_types(program) == Counter(["bf16", dtype])


def test_what_a_collective_is_for(tool):
    gather, started, combined = tool.find_collectives(PROGRAM)
    parameters = [np.zeros((4, 4, 16, 4)), np.zeros(4), np.zeros((1,))]
    described = tool.describe_collective(combined, parameters)
    assert described["bytes"] == {"f32": 20, "bf16": 2048} and described["bytes_of_parameters"] == 16 + 2048
    assert (described["tensors"], described["scalars"], described["others"]) == (3, 1, [])
    assert tool.describe_collective(gather, parameters)["others"] == ["bf16[4, 4, 512]"]
    assert tool.describe_collective(started, parameters)["others"] == ["f32[2, 16]"]


def test_types_of_convolutions(tool):
    assert tool.convolution_types(PROGRAM) == {"bf16": 1, "f32": 1}


# As a CUDA build of JAX writes them.
GPU_PROGRAM = """
HloModule jit_train_step, is_scheduled=true

%gemm_fusion_dot (p.1: bf16[8,16], p.2: bf16[16,4]) -> bf16[8,4] {
  %p.1 = bf16[8,16]{1,0} parameter(0)
  %p.2 = bf16[16,4]{1,0} parameter(1)
  ROOT %dot.1 = bf16[8,4]{1,0} dot(%p.1, %p.2), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (a: f32[4,4,4,16], b: bf16[2,8,8,4], c: bf16[16,4,4,4], d: bf16[8,16], e: bf16[16,4]) -> bf16[8,4] {
  %a = f32[4,4,4,16]{3,2,1,0} parameter(0)
  %b = bf16[2,8,8,4]{3,2,1,0} parameter(1)
  %c = bf16[16,4,4,4]{3,2,1,0} parameter(2)
  %d = bf16[8,16]{1,0} parameter(3)
  %e = bf16[16,4]{1,0} parameter(4)
  %all-reduce-start.1 = f32[4,4,4,16]{3,2,1,0} all-reduce-start(%a), channel_id=1, replica_groups=[1,8]<=[8], to_apply=%add
  %cudnn-conv.1 = (bf16[2,4,4,16]{3,2,1,0}, u8[1024]{0}) custom-call(%b, %c), window={size=4x4 pad=1_1x1_1 stride=2x2}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %cublas-gemm.1 = (bf16[8,4]{1,0}, s8[1024]{0}) custom-call(%d, %e, %a), custom_call_target="__cublas$lt$matmul"
  %gemm_fusion.1 = bf16[8,4]{1,0} fusion(%d, %e), kind=kCustom, calls=%gemm_fusion_dot
  %all-reduce-done.1 = f32[4,4,4,16]{3,2,1,0} all-reduce-done(%all-reduce-start.1)
  ROOT %copy.1 = bf16[8,4]{1,0} copy(%gemm_fusion.1)
}
"""  # noqa: E501


def test_a_program_for_gpus(tool):
    (reduced,) = tool.find_collectives(GPU_PROGRAM)
    assert (reduced.kind, reduced.asynchronous, reduced.overlapping) == ("all-reduce", True, 3)
    assert reduced.tensors == (("f32", (4, 4, 4, 16)),)
    assert tool.convolution_types(GPU_PROGRAM) == {"bf16": 3}


@pytest.mark.parametrize("topology", ["gpu:8", "gpu:0x8x1", "gpu:1x8xall"])
def test_no_topology_of_gpus(tool, topology):
    with pytest.raises(UserError, match="there is no topology gpu:.*such as gpu:1x8x1"):
        tool.main([f"--topology={topology}", "--config=tpu"])


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU")
def test_without_a_gpu(tool):
    try:
        with pytest.raises(UserError, match="gpu:1x8x1 takes a GPU and a CUDA build of JAX, which are not here"):
            tool.main(["--topology=gpu:1x8x1", "--config=tpu"])
    finally:
        jax.config.update("jax_mock_gpu_topology", "")


def test_without_libtpu(tool, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '.\[tpu\]'"):
        tool.main(["--topology=v5e:4x4", "--config=tpu"])


@needs_libtpu
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v5e:3x3"], "there is no topology v5e:3x3 .*give one such as v5e:4x4"),
        (["--topology=somewhere"], "there is no topology somewhere .*give one such as v5e:4x4"),
        (["--topology=v5e:4x4", "--global_batch", "32", "40"], "a batch of 40 cannot be divided among 16 devices"),
        (["--topology=v5e:4x4", "--global_batch", "0"], "input.batch_size is 0; it must be"),
        (["--topology=v5e:4x4", "--config.training.fsdp=3"], "16 devices cannot be divided into groups of 3"),
        (["--topology=v5e:4x4", "--config.data.side=64"], "there is no setting data.side"),
    ],
)
def test_wrong_arguments(tool, arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        tool.main(["--config=tpu", *arguments])
    assert "\n" not in str(caught.value)


@needs_libtpu
def test_a_small_step_for_16_chips(tool, tmp_path, capsys):
    out = tmp_path / "tpu.json"
    tool.main(["--topology=v5e:4x4", "--config=tpu", "--global_batch", "32", f"--out={out}", *SMALL])
    (report,) = json.loads(out.read_text())
    assert report["chips"] == 16 and report["batch_per_chip"] == 2
    assert report["fits"] and 0 < report["peak"] < report["memory_of_chip"] == 16 * 2**30
    assert {collective["kind"] for collective in report["collectives"]} == {"all-reduce"}
    assert not any(collective["others"] for collective in report["collectives"])
    assert len(report["collectives"]) == 2  # One for each type.
    # The landmark network's last layer, a small product, is float32.
    assert set(report["convolutions"]) <= {"bf16", "bf16 x f32"} and report["convolutions"]["bf16"] > 70
    assert report["convolutions"].get("bf16 x f32", 0) <= 2
    assert "memory: " in capsys.readouterr().out


def test_a_chip_whose_memory_is_not_known(tool, config):
    """The CPU stands in."""
    report = {"topology": "here", **tool.compile_and_report(config, jax.devices()[:1], {})}
    assert report["fits"] and report["memory_of_chip"] == 0 < report["flops"]
    (memory,) = [line for line in tool.lines_of(report) if line.startswith("  memory: ")]
    assert re.match(r"  memory: [\d.e-]+ GiB \(arguments ", memory)


@pytest.mark.parametrize(("compute", "dtype"), [("float32", "f32"), ("bfloat16", "bf16")])
def test_lowering_for_eight_gpus(config, compute, dtype):
    config.input.batch_size = 16
    config.losses.contour = 0.1
    config.training.compute = compute
    step, arguments = abstract_step(task_of_shapes(config), config, create_mesh(config, 8))
    with compiling_for("gpu"):
        exported = jax.export.export(step, platforms=["cuda"])(*arguments)
    text = exported.mlir_module()
    assert exported.nr_devices == 8
    operands = re.findall(r"stablehlo\.convolution.*: \(tensor<\w*x(\w+)>, tensor<\w*x(\w+)>\)", text)
    # Every layer of the three networks, and their gradients, as convolutions; no formulation that is for CPUs.
    assert len(operands) == text.count("stablehlo.convolution") > 70 and set(operands) == {(dtype, dtype)}
    assert text.count("stablehlo.dot_general") <= 6  # The landmark network's dense layers, for two faces.
    assert "custom_call" not in text.replace("custom_call @Sharding", "")
    donated = len(re.findall(r"jax\.buffer_donor|tf\.aliasing_output", text))
    assert donated == len(jax.tree.leaves(arguments[0]))
    assert '<@mesh, [{"data", "fsdp"}, {}, {}, {}]>' in text


def test_a_file_that_cannot_be_written_is_told_before_the_work(tool, monkeypatch):
    monkeypatch.setattr(tool, "describe", lambda topology: jax.devices()[:1])
    monkeypatch.setattr(tool, "compile_and_report", None)
    with pytest.raises(UserError, match="cannot write /proc/tpu.json"):
        tool.main(["--topology=v5e:1x1", "--config=tpu", "--out=/proc/tpu.json"])
