import os
import pickle
import tracemalloc
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from maskgan_jax.errors import UserError
from maskgan_jax.weights import state_dict
from maskgan_jax.weights.state_dict import LEGACY_MAGIC, LEGACY_PROTOCOL, parse_state_dict, read_state_dict


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_torch_saves(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    base = torch.arange(24, dtype=torch.float32).view(4, 6)
    state = OrderedDict(
        plain=base,
        part=base[1:3, 2:5],
        transposed=base.t(),
        broadcast=torch.ones(1, 3).expand(4, 3),
        integer=torch.tensor([1, -2]),
        half=torch.tensor([0.5, 2.0]).half(),
        scalar=torch.tensor(3.0),
        empty=torch.zeros(0, 3),
        flag=torch.tensor([True, False]),
        parameter=torch.nn.Parameter(torch.ones(2, 2)),
    )
    torch.save(state, tmp_path / "state.pth", _use_new_zipfile_serialization=zipped)
    read = read_state_dict(tmp_path / "state.pth")
    assert list(read) == list(state)
    for name, tensor in state.items():
        expected = tensor.detach().numpy()
        assert read[name].dtype == expected.dtype
        np.testing.assert_array_equal(read[name], expected)


def test_checkpoints_that_hold_more_than_a_state_dict(tmp_path):
    torch = pytest.importorskip("torch")
    weight = torch.tensor([0.5, -3.0, 1e30])
    checkpoint = {
        "epoch": 3,
        "args": {"lr": 0.1},
        "G": {"module.w": weight.bfloat16()},
        "optimizer": {"state": {0: {"avg": weight}}},
    }
    torch.save(checkpoint, tmp_path / "state.pth")
    read = read_state_dict(tmp_path / "state.pth")
    assert list(read) == ["G.module.w", "optimizer.state.0.avg"]
    np.testing.assert_array_equal(read["G.module.w"].astype(np.float32), weight.bfloat16().float().numpy())


def test_safetensors_of_all_types(tmp_path):
    types = "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 float32 float64 complex64 bfloat16".split()
    arrays = {name: np.array([[0, 1], [1, 0]]).astype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name in types}
    safetensors.numpy.save_file(arrays, tmp_path / "state.safetensors")
    read = read_state_dict(tmp_path / "state.safetensors")
    assert {name: array.dtype for name, array in read.items()} == {name: array.dtype for name, array in arrays.items()}
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("key", [0.5, None, (1, 2)])
def test_what_has_no_name_beside_a_state_dict_is_left_out(tmp_path, key):
    tensor = f"ctorch._utils\n_rebuild_tensor_v2\n({storage(2)}I0\n(I2\nt(I1\nttR".encode("latin1")
    others = pickle.dumps({key: 1}, 2).removeprefix(b"\x80\x02").removesuffix(b".")
    path = zip_file(tmp_path, b"\x80\x02}U\1m}U\1w" + tensor + b"ssU\1x" + others + b"s.", np.float32([1, 2]).tobytes())
    read = read_state_dict(path)
    assert list(read) == ["m.w"]
    np.testing.assert_array_equal(read["m.w"], [1, 2])


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path):
    path = zip_file(tmp_path, b"\x80\x02}q\0U\x01ah\0s.")
    with pytest.raises(UserError, match="not a readable state dict"):
        read_state_dict(path)


def test_a_state_dict_that_takes_more_memory_than_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(state_dict, "_read_zip", lambda data: {"weight": np.empty(2**60, np.float32)})
    with pytest.raises(UserError, match=r"is not a readable state dict \(it takes more memory than there is\)$"):
        read_state_dict(zip_file(tmp_path, b"\x80\x02}."))


class Harmful:
    """Runs a command when it is unpickled by a reader that trusts its file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_is_run(tmp_path, zipped):
    file, proof = tmp_path / "harmful.pth", tmp_path / "proof"
    harmful = pickle.dumps({"weight": Harmful(proof)})
    if zipped:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", harmful)
    else:
        file.write_bytes(pickle.dumps(LEGACY_MAGIC) + pickle.dumps(LEGACY_PROTOCOL) + pickle.dumps({}) + harmful)
    with pytest.raises(UserError, match=r"harmful\.pth is not a readable state dict .*system"):
        read_state_dict(file)
    assert not proof.exists()


def storage(count, dtype="FloatStorage"):
    return f"(Vstorage\nctorch\n{dtype}\nV0\nVcpu\nI{count}\ntQ"


def zip_file(tmp_path, pickled, data=b""):
    path = tmp_path / "state.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", data)
    return path


@pytest.mark.parametrize(("offset", "shape", "stride"), [(0, 9, 1), (1, 8, 1), (0, 2, 8), (-1, 2, 1), (7, 2, -1), (0, -1, 1)])
def test_no_tensor_reaches_beyond_its_storage(tmp_path, offset, shape, stride):
    tensor = f"ctorch._utils\n_rebuild_tensor_v2\n({storage(8)}I{offset}\n(I{shape}\nt(I{stride}\nttR"
    path = zip_file(tmp_path, f"\x80\x02}}Vweight\n{tensor}s.".encode("latin1"), bytes(32))
    with pytest.raises(UserError, match="beyond its storage"):
        read_state_dict(path)


def test_no_storage_is_larger_than_the_file(tmp_path):
    path = zip_file(tmp_path, f"\x80\x02{storage(10**12)}.".encode("latin1"))
    with pytest.raises(UserError, match="larger than the file"):
        read_state_dict(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a state dict",
        bytes(100),
        pickle.dumps({"weight": 1}),
        pickle.dumps(LEGACY_MAGIC) + pickle.dumps(LEGACY_PROTOCOL) + pickle.dumps({}) + pickle.dumps([1]) + pickle.dumps([]),
        b"\x08\0\0\0\0\0\0\0{broken}",
    ],
)
def test_other_files_are_refused(data):
    with pytest.raises(UserError, match="not a"):
        parse_state_dict(data)


def test_truncated_file(tmp_path):
    torch = pytest.importorskip("torch")
    for zipped in (True, False):
        path = tmp_path / "state.pth"
        torch.save({"weight": torch.ones(1000)}, path, _use_new_zipfile_serialization=zipped)
        path.write_bytes(path.read_bytes()[:-500])
        with pytest.raises(UserError, match=r"state\.pth is not a readable state dict"):
            read_state_dict(path)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_state_dict(tmp_path / "nowhere.pth")


# What a fuzzer found, and what else a file can do to a reader that trusts it.
HOSTILE = {
    "a number in the reader's memo that asks for 16 GB": b"\x80\x02K\1r\xff\xff\xff\x7f.",
    "a key that takes 2 ** 60 steps to hash": b"\x80\x02})" + b"q\0h\0\x86" * 60 + b"K\1s.",
    "an array of bytes of 1 TB": b"\x80\x05\x96" + (10**12).to_bytes(8, "little") + b".",
    "a mapping that holds itself twice": b"\x80\x02}q\0(U\1ah\0U\1bh\0u.",
    "2 ** 40 mappings": b"\x80\x02}" + b"".join(b"q%c}(U\1ah%cU\1bh%cu" % (n, n, n) for n in range(40)) + b".",
    "one number as a tensor of 8 TB": f"\x80\x02}}U\x01wctorch._utils\n_rebuild_tensor_v2\n({storage(1)}I0\n(I{2**40}\n"
    "t(I0\nttRs.".encode("latin1"),
}


@pytest.mark.parametrize("pickled", HOSTILE.values(), ids=HOSTILE)
def test_no_file_takes_all_memory_or_time(pickled, tmp_path):
    path = zip_file(tmp_path, pickled, bytes(4))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"state\.pth is not a (readable )?state dict") as caught:
            read_state_dict(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["data.pkl", "data/0"])
def test_a_file_that_grows_when_it_is_unpacked_is_refused(name, tmp_path):
    path = tmp_path / "state.pth"
    pickled = f"\x80\x02}}U\x01wctorch._utils\n_rebuild_tensor_v2\n({storage(8)}I0\n(I8\nt(I1\nttRs.".encode("latin1")
    contents = {"data.pkl": pickled, "data/0": bytes(32)} | {name: bytes(10**8)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in contents.items():
            archive.writestr(f"archive/{member}", content)
    with pytest.raises(UserError, match="is too large"):
        read_state_dict(path)
