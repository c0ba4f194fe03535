"""Compiles the training step for TPUs or GPUs that need not be there: memory, arithmetic and traffic of each chip.

    pip install -e '.[tpu]'
    python tools/compile_for_tpu.py --topology=v5e:4x4 --config=configs/tpu.py --global_batch 256 1024 --out=tpu.json

    python tools/compile_for_tpu.py --topology=gpu:1x8x1 --config=configs/tpu.py     # on a machine with one GPU, for eight

The step is that of `maskgan train`, with its shardings and its donated state; libtpu compiles it as for the chips themselves,
which takes minutes. GPUs are mocked (`jax_mock_gpu_topology`: slices x machines x GPUs of each) by a CUDA build of JAX, which
needs one GPU of their kind. Nothing is run, and so nothing here is a time. docs/scaling.md has results.

FLOPs and bytes are XLA's own count for one chip: two for each multiplication and addition of a convolution, none for padding,
one for each number that anything else gives; and the sizes of all that each fused operation reads and writes, whether that lies
in the chip's large memory or in its fast one, so that the bytes are an upper bound for the traffic with the former.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import importlib.util
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.experimental import topologies
from ml_collections import ConfigDict

from maskgan_jax.config import load_config
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import check_writable, write_json
from maskgan_jax.models.convolutions import compiling_for
from maskgan_jax.runtime.chips import chip_of
from maskgan_jax.training.abstract import abstract_step
from maskgan_jax.training.check import task_of_shapes
from maskgan_jax.training.mesh import create_mesh

EXAMPLES = "v5e:4x4, v5e:16x16, v5p:4x4x4 or v6e:8x8"
GPU_EXAMPLES = "gpu:1x8x1 for 8 or gpu:4x8x1 for 32"
# Without these libtpu asks Google's cloud, for a minute, which machine it is on, complains that it is on none, writes logs to
# /tmp, and lets no second process compile.
ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_LOG_DIR": "disabled",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "ragged-all-to-all", "reduce-scatter")


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, compiles for one batch after the other, prints and writes what comes out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", required=True, help=f"chips and how they are connected: {EXAMPLES}; {GPU_EXAMPLES}")
    parser.add_argument("--config", required=True, metavar="FILE", help="a file such as configs/tpu.py")
    parser.add_argument("--global_batch", nargs="+", type=int, metavar="N", help="default: input.batch_size of the config")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of the compiler; repeatable")
    parser.add_argument("--out", metavar="FILE", help="results as JSON")
    flags, overrides = parser.parse_known_args(arguments)
    batches = [[f"--config.input.batch_size={n}"] for n in flags.global_batch or []]
    configs = [load_config(flags.config, [*overrides, *batch]) for batch in batches or [[]]]
    options = dict(option.partition("=")[::2] for option in flags.option)
    chips = describe(flags.topology)
    for config in configs:
        create_mesh(config, chips)  # All that can be wrong with a batch is told before the first minutes pass.
    if flags.out:
        check_writable(flags.out)
    reports = []
    for config in configs:
        reports.append({"topology": flags.topology, **compile_and_report(config, chips, options)})
        print("\n".join(lines_of(reports[-1])), flush=True)
        if flags.out:
            write_json(flags.out, reports)


def describe(topology: str) -> list[jax.Device]:
    """The chips of a topology; programs can be compiled for them and not run.

    Raises:
      UserError: there is no such topology, libtpu is not installed, or JAX finds no GPU.
    """
    if topology.startswith("gpu:"):
        return _mocked_gpus(topology)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("compiling for TPUs takes libtpu; install it with pip install -e '.[tpu]'")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    jax.config.update("jax_platforms", "cpu")
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition(": ")[2].partition("\n")[0] or error
        raise UserError(f"there is no topology {topology} ({reason}); give one such as {EXAMPLES}") from error


def _mocked_gpus(topology: str) -> list[jax.Device]:
    if not re.fullmatch(r"gpu:[1-9]\d*x[1-9]\d*x[1-9]\d*", topology):
        raise UserError(f"there is no topology {topology}; give slices, machines and GPUs of each, such as {GPU_EXAMPLES}")
    # Read when the GPU's client is made, which is now.
    jax.config.update("jax_mock_gpu_topology", topology.removeprefix("gpu:"))
    try:
        return jax.devices("gpu")
    except RuntimeError as error:
        raise UserError(f"{topology} takes a GPU and a CUDA build of JAX, which are not here") from error


def compile_and_report(config: ConfigDict, chips: Sequence[jax.Device], options: Mapping[str, str]) -> dict[str, Any]:
    """Compiles the training step for the chips; returns what `lines_of` prints, sizes in bytes and per chip.

    `memory_of_chip` is 0 for a chip that is not known.

    Raises:
      UserError: the compiler does not take one of the options.
    """
    task = task_of_shapes(config)
    batch, kind = config.input.batch_size, chips[0].device_kind
    # A chip may be two devices, its cores.
    places = {tuple(getattr(chip, "coords", [chip.id])) for chip in chips}
    known = chip_of(kind)
    memory = (known.memory if known else 0) * len(places) / len(chips)
    report = {"chip": kind, "chips": len(chips), "global_batch": batch, "batch_per_chip": batch // len(chips)}
    report |= {"remat": config.training.remat, "fsdp": config.training.fsdp, "memory_of_chip": memory}
    start = time.monotonic()
    with compiling_for(chips[0].platform):
        step, arguments = abstract_step(task, config, create_mesh(config, chips))
        lowered = step.lower(*arguments)
    try:
        compiled = lowered.compile(compiler_options=dict(options))
    except jax.errors.JaxRuntimeError as error:
        status, _, reason = str(error).partition("\n")[0].partition(": ")
        if status == "INVALID_ARGUMENT" and options:
            raise UserError(f"the compiler does not take --option: {reason}") from error
        if status != "RESOURCE_EXHAUSTED":
            raise
        return report | {"fits": False, "reason": reason}
    report["compile_seconds"] = time.monotonic() - start
    sizes, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    parameters = jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0))[0])
    report |= {
        "fits": True,
        "arguments": sizes.argument_size_in_bytes,
        # The new state takes the place of the old one.
        "outputs": sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
        "temporaries": sizes.temp_size_in_bytes,
        "code": sizes.generated_code_size_in_bytes,
        "flops": cost["flops"],
        "bytes_accessed": cost["bytes accessed"],
        "convolutions": convolution_types(text),
        "collectives": [describe_collective(each, parameters) for each in find_collectives(text)],
    }
    report["peak"] = sum(report[part] for part in ("arguments", "outputs", "temporaries", "code"))
    return report


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of an HLO program: `%name = types opcode(operands), ...`.

    Attributes:
      computation: the function that it is in; its lines stand in the order in which they are run.
      name: unique in the program.
      tensors: types and shapes of what it gives.
      opcode: such as `fusion`.
      operands: names.
      line: all of it.
    """

    computation: str
    name: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    opcode: str
    operands: tuple[str, ...]
    line: str

    @property
    def multiplies(self) -> bool:
        """Whether it is a convolution or a matrix product: XLA's, cuDNN's or cuBLAS's."""
        return self.opcode in ("convolution", "dot") or 'custom_call_target="__cu' in self.line

    @property
    def called(self) -> str:
        """The function that it calls, or ''."""
        match = re.search(r"\b(?:calls|called_computation)=%?([\w.\-]+)", self.line)
        return match[1] if match else ""


def instructions(text: str) -> Iterator[Instruction]:
    """The lines of a compiled program, as `as_text()` gives it."""
    computation = ""
    for line in text.splitlines():
        if match := re.match(r"(?:ENTRY )?%?([\w.\-]+) .*\{$", line):
            computation = match[1]
        # The types may be a tuple; layouts in it have parentheses too, but no blanks.
        elif match := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([a-z][\w\-]*)\((.*?)\)(?:,|$)", line):
            name, types, opcode, operands = match.groups()
            tensors = tuple(
                (dtype, tuple(int(side) for side in shape.split(",") if side))
                for dtype, shape in re.findall(r"\b([a-z]\w*)\[([\d,]*)\]", types)
            )
            yield Instruction(computation, name, tensors, opcode, tuple(re.findall(r"%([\w.\-]+)", operands)), line)


def convolution_types(text: str) -> dict[str, int]:
    """How many convolutions and matrix products a program has, by the types that they multiply."""
    program = {instruction.name: instruction for instruction in instructions(text)}
    counts: collections.Counter[str] = collections.Counter()
    for instruction in program.values():
        if instruction.multiplies:
            # cuDNN's and cuBLAS's may take what is added, too.
            counts[" x ".join(sorted({program[name].tensors[0][0] for name in instruction.operands[:2]}))] += 1
    return dict(counts)


@dataclasses.dataclass(frozen=True)
class Collective:
    """Traffic between the chips.

    Attributes:
      kind: such as `all-reduce`.
      tensors: types and shapes of what is sent or received, whichever is more.
      asynchronous: whether a chip can compute meanwhile.
      overlapping: the convolutions that it computes meanwhile.
      in_loop: whether it comes several times in a step (`optimizer.accumulate`, or a loop that the compiler made).
      source: the operation of the program before it was compiled.
    """

    kind: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    asynchronous: bool
    overlapping: int
    in_loop: bool
    source: str


def find_collectives(text: str) -> list[Collective]:
    """The collectives of a compiled program, in its order."""
    program = list(instructions(text))
    by_name = {instruction.name: instruction for instruction in program}
    inside: dict[str, list[Instruction]] = collections.defaultdict(list)
    for instruction in program:
        inside[instruction.computation].append(instruction)
    computing = {instruction.computation for instruction in program if instruction.multiplies}

    def convolutions_until_done(start: Instruction) -> int:
        lines = inside[start.computation]
        count = 0
        for line in lines[lines.index(start) + 1 :]:
            if line.opcode.endswith("-done") and start.name in line.operands:
                return count
            count += line.multiplies or line.called in computing
        return 0

    loops = set(re.findall(r"\bbody=%?([\w.\-]+)", text))
    found = []
    for instruction in program:
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        start = instruction if instruction.opcode.endswith("-start") else None
        if not start:  # Perhaps all of what an `async-start` calls.
            callers = (each for each in program if each.opcode == "async-start" and each.called == instruction.computation)
            start = next(callers, None)
        sent = tuple(tensor for name in instruction.operands if name in by_name for tensor in by_name[name].tensors)
        received = instruction.tensors if instruction.opcode == kind else sent
        larger = max(sent, received, key=size_of)
        source = re.search(r'op_name="([^"]*)"', instruction.line)
        overlapping = convolutions_until_done(start) if start else 0
        in_loop = instruction.computation in loops
        found.append(Collective(kind, larger, start is not None, overlapping, in_loop, source[1] if source else ""))
    return found


def size_of(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> int:
    """Bytes of tensors of any of XLA's types, whose names tell their bits: bf16, s32, f8e4m3fn, c64."""

    def bits(dtype: str) -> int:
        return 8 if dtype == "pred" else int(re.match(r"[a-z]+(\d+)", dtype)[1])

    return sum(bits(dtype) * math.prod(shape) // 8 for dtype, shape in tensors)


def describe_collective(collective: Collective, parameters: Iterable[Any]) -> dict[str, Any]:
    """A collective for the report: its bytes by type, those of gradients among them, and the shapes of what is neither.

    A tensor with the sides of a parameter, in any order, is taken for its gradient, or for the parameter if it is gathered.
    """
    known = {_sides(leaf.shape) for leaf in parameters}
    by_type: dict[str, int] = collections.defaultdict(int)
    for dtype, shape in collective.tensors:
        by_type[dtype] += size_of([(dtype, shape)])
    of_parameters = [tensor for tensor in collective.tensors if tensor[1] and _sides(tensor[1]) in known]
    others = [f"{dtype}{list(shape)}" for dtype, shape in collective.tensors if shape and _sides(shape) not in known]
    return {
        "kind": collective.kind,
        "asynchronous": collective.asynchronous,
        "overlapping_convolutions": collective.overlapping,
        "in_loop": collective.in_loop,
        "bytes": dict(by_type),
        "tensors": len(collective.tensors),
        "bytes_of_parameters": size_of(of_parameters),
        "scalars": sum(not shape for _, shape in collective.tensors),
        "others": others,
        "source": collective.source,
    }


def _sides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(side for side in shape if side > 1))


def lines_of(report: dict[str, Any]) -> Iterator[str]:
    """The report for people."""
    yield (
        f"{report['topology']}: {report['chips']} chips ({report['chip']}), batch {report['global_batch']}, "
        f"{report['batch_per_chip']} a chip, training.remat={report['remat']}, training.fsdp={report['fsdp']}"
    )
    if not report["fits"]:
        yield f"  does not fit: {report['reason']}"
        return
    room = f" of {_gib(report['memory_of_chip'])}" if report["memory_of_chip"] else ""
    parts = ", ".join(f"{part} {_gib(report[part])}" for part in ("arguments", "outputs", "temporaries", "code"))
    yield f"  memory: {_gib(report['peak'])}{room} GiB ({parts})"
    yield (
        f"  arithmetic: {report['flops'] / 1e12:.3f} TFLOP, {report['flops'] / report['batch_per_chip'] / 1e9:.1f} GFLOP a "
        f"picture; {report['bytes_accessed'] / 1e9:.1f} GB accessed"
    )
    types = ", ".join(f"{count} of {dtype}" for dtype, count in report["convolutions"].items())
    yield f"  convolutions and matrix products: {types}"
    alike = collections.defaultdict(list)
    for each in report["collectives"]:
        alike[each["kind"], tuple(each["bytes"]), each["asynchronous"], each["in_loop"], bool(each["others"])].append(each)
    for (kind, dtypes, asynchronous, in_loop, others), group in alike.items():
        size = sum(sum(each["bytes"].values()) for each in group)
        tensors, scalars, meanwhile = (
            sum(each[name] for each in group) for name in ("tensors", "scalars", "overlapping_convolutions")
        )
        how = f"during {meanwhile} convolutions" if asynchronous else "nothing else meanwhile"
        how += ", in each round of a loop" if in_loop else ""
        shapes = sorted({f"{shape} of {each['source']}" for each in group for shape in each["others"]})
        rest = f"; NEITHER PARAMETERS, GRADIENTS NOR SCALARS: {', '.join(shapes)}" if others else ""
        yield (
            f"  {len(group)} {kind}: {size / 1e6:.3g} MB of {' and '.join(dtypes)} in {tensors} tensors, {scalars} of "
            f"them scalars; {how}{rest}"
        )
    yield f"  compiled in {report['compile_seconds']:.0f} s"


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g}"


if __name__ == "__main__":
    sys.exit(exit_code("compile_for_tpu", main))
