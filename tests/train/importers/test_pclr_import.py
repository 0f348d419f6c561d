"""PCLR's published weights: Keras .h5 files and SavedModel folders, written by Keras and TensorFlow themselves."""

import contextlib
import importlib.util
import json
import math
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgedge.errors import EcgedgeError
from ecgedge_train.encoders.pclr import VARIANTS, PclrResNet
from ecgedge_train.importers.keras_h5 import read_keras_h5
from ecgedge_train.importers.pclr import import_pclr
from ecgedge_train.importers.saved_model import OBJECT_GRAPH, crc32c, read_index, read_saved_model, read_table

GOLDEN = Path(__file__).parents[2] / "golden" / "tf_bundle"
LFS_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 25690896\n"
)

# The published architecture in Keras, run in a process of its own: Keras picks its backend for a whole process.
KERAS_SCRIPT = """
import sys
import numpy as np
import keras
from keras import layers

def same_conv(x, n, k, stride=1):
    return layers.Conv1D(n, k, strides=stride, padding="same", use_bias=False)(x)

def norm(x):
    return layers.BatchNormalization()(x)

def build(n_samples, n_leads, stem_norm, first_stride):
    ecg = layers.Input((n_samples, n_leads), name="ecg")
    x = same_conv(ecg, 64, 16)
    x = layers.Activation("relu")(norm(x) if stem_norm else x)
    y = x
    for n, stride in zip((128, 196, 256, 320), (first_stride, 4, 4, 4)):
        y = same_conv(layers.MaxPooling1D(stride, padding="same")(y), n, 1)
        x = layers.Activation("relu")(norm(same_conv(x, n, 16)))
        y = layers.Add()([same_conv(x, n, 16, stride), y])
        x = layers.Activation("relu")(norm(y))
    embedding = layers.GlobalAveragePooling1D(name="embed")(x)
    z = layers.Dense(320, activation="relu", name="projection_0")(embedding)
    return keras.Model(ecg, layers.Dense(320, name="projection")(z)), keras.Model(ecg, embedding)

keras.utils.set_random_seed(1)
rng = np.random.default_rng(1)
for name, spec in {"12": (4096, 12, True, 4), "I": (4096, 1, True, 4), "II": (2500, 1, False, 2),
                   "C3PO": (2500, 12, True, 2)}.items():
    model, encoder = build(*spec)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            n = layer.gamma.shape[0]
            layer.set_weights([rng.uniform(0.5, 1.5, n), rng.normal(0, 0.3, n), rng.normal(0, 0.3, n),
                               rng.uniform(0.5, 2, n)])
    x = rng.normal(0, 0.5, (2, *spec[:2])).astype(np.float32)
    np.savez(f"{sys.argv[1]}/{name}.npz", x=x, y=encoder.predict(x, verbose=0))
    model.save(f"{sys.argv[1]}/{name}.h5")
"""


@pytest.fixture(scope="module")
def keras_files(tmp_path_factory):
    """A folder with VARIANT.h5, and VARIANT.npz with an input (n, samples, leads) and Keras' embedding."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras has no wheel for this Python; it needs 3.11")
    folder = tmp_path_factory.mktemp("keras")
    environment = {**os.environ, "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KERAS_SCRIPT, str(folder)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def error_of(net, stored):
    """Relative l2 distance of our embedding to a stored one; leads that the variant does not read hold noise."""
    x = np.random.default_rng(0).normal(size=(2, 12, stored["x"].shape[1])).astype(np.float32)
    x[:, list(net.stem_leads)] = stored["x"].transpose(0, 2, 1)
    with torch.inference_mode():
        y = net(torch.from_numpy(x)).numpy()
    return np.linalg.norm(y - stored["y"]) / np.linalg.norm(stored["y"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_keras_3_saves(variant, keras_files):
    net = import_pclr(keras_files / f"{variant}.h5")
    assert (net.variant, net.resample.n_samples) == (variant, VARIANTS[variant].n_samples)
    assert not net.training
    assert error_of(net, np.load(keras_files / f"{variant}.npz")) < 1e-5


def as_keras_2(source, target):
    """Copy a Keras 3 .h5 under the names that Keras 2 gives, as tf_keras 2.21 writes them."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:

        def copy(name, item):
            if isinstance(item, h5py.Dataset):
                new[f"{name}:0"] = item[()]

        old.visititems(copy)
        new.attrs["model_config"] = old.attrs["model_config"].replace('"batch_shape"', '"batch_input_shape"')
        new["optimizer_weights/Adam/m/conv1d/kernel:0"] = np.zeros((16, 12, 64), np.float32)


def test_what_keras_2_saves(keras_files, tmp_path):
    as_keras_2(keras_files / "II.h5", tmp_path / "old.h5")
    net = import_pclr(tmp_path / "old.h5")
    assert net.variant == "II"
    assert error_of(net, np.load(keras_files / "II.npz")) < 1e-5


def published_names(net):
    """The encoder's state under Keras' names, written out by hand for the first unit and by rule for the rest."""
    state = {name: t.numpy() for name, t in net.state_dict().items()}
    kernels = {"conv1d": "stem"}
    norms = ["stem_bn"] if net.variant != "II" else []
    for unit in range(4):
        for i, layer in enumerate(("shortcut", "conv1", "conv2"), start=3 * unit + 1):
            kernels[f"conv1d_{i}"] = f"units.{unit}.{layer}"
        norms += [f"units.{unit}.bn1", f"units.{unit}.bn2"]
    tensors = {
        f"{keras}/kernel": state[f"{ours}.weight"][:, :, 0].transpose(2, 1, 0)
        for keras, ours in kernels.items()
    }
    for i, ours in enumerate(norms):
        keras = f"batch_normalization_{i}" if i else "batch_normalization"
        tensors |= {
            f"{keras}/gamma": state[f"{ours}.weight"],
            f"{keras}/beta": state[f"{ours}.bias"],
            f"{keras}/moving_mean": state[f"{ours}.running_mean"],
            f"{keras}/moving_variance": state[f"{ours}.running_var"],
        }
    return tensors


def random_net(variant, seed=0):
    torch.manual_seed(seed)
    net = PclrResNet(variant=variant).eval()
    with torch.no_grad():
        for name, t in net.state_dict().items():
            if "bn" in name and t.is_floating_point():
                t.uniform_(0.5, 1.5)
    return net


def write_h5(path, tensors, *, n_samples=None, leads=12):
    with h5py.File(path, "w") as file:
        for key, value in tensors.items():
            layer, _, variable = key.partition("/")
            file[f"model_weights/{layer}/{layer}/{variable}"] = value
        if n_samples:
            shape = [None, n_samples, leads]
            layer = {"class_name": "InputLayer", "config": {"batch_shape": shape}}
            file.attrs["model_config"] = json.dumps({"config": {"layers": [layer]}})
    return path


def same_state(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_dataset_of_the_reference_layout_has_its_place(oracles, tmp_path):
    layout = json.loads((oracles / "pclr_h5_layout.json").read_text())["datasets"]
    net = random_net("12")
    ours = published_names(net)
    theirs = {f"{path.split('/')[0]}/{path.split('/')[-1]}": shape for path, shape in layout.items()}
    used = {key: list(value.shape) for key, value in ours.items()}
    assert used == {key: shape for key, shape in theirs.items() if not key.startswith("projection")}
    path = tmp_path / "layout.h5"
    with h5py.File(path, "w") as file:
        for name, shape in layout.items():
            key = f"{name.split('/')[0]}/{name.split('/')[-1]}"
            file[f"model_weights/{name}"] = ours.get(key, np.zeros(shape, np.float32))
    assert same_state(import_pclr(path, variant="12"), net)


@pytest.mark.parametrize("variant", ["I", "II"])
def test_layers_numbered_from_elsewhere_and_no_head(variant, tmp_path):
    # A second model of a program: conv1d_13 ... conv1d_25, batch_normalization_9 ...
    net = random_net(variant)

    def shifted(key):
        layer, _, variable = key.partition("/")
        base, by = ("conv1d", 13) if layer.startswith("conv1d") else ("batch_normalization", 9)
        return f"{base}_{int(layer.removeprefix(base).removeprefix('_') or 0) + by}/{variable}"

    tensors = {shifted(key): value for key, value in published_names(net).items()}
    found = import_pclr(write_h5(tmp_path / "x.h5", tensors))
    assert found.variant == variant
    assert same_state(found, net)


def test_a_length_that_is_not_told_must_be_said(tmp_path):
    path = write_h5(tmp_path / "x.h5", published_names(random_net("12")))
    with pytest.raises(
        EcgedgeError, match="unknown samples, which fits 12 and C3PO; say which variant it is"
    ):
        import_pclr(path)
    assert import_pclr(path, variant="12").resample.n_samples == 4096
    assert import_pclr(path, variant="C3PO").resample.n_samples == 2500
    with pytest.raises(EcgedgeError, match="that is variant 12 or C3PO, not II"):
        import_pclr(path, variant="II")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("conv1d_5/kernel", "has no conv1d_5/kernel: PCLR has 13 layers conv1d, here are 12"),
        ("batch_normalization_3/gamma", "has no batch_normalization_3/gamma: PCLR has 9 layers"),
        ("batch_normalization_8/gamma", "a stem over 12 leads, 8 norms .* no published variant"),
        ("batch_normalization_8/moving_mean", "has no batch_normalization_8/moving_mean; it is incomplete"),
    ],
)
def test_a_missing_key_is_named(key, message, tmp_path):
    tensors = published_names(random_net("12"))
    del tensors[key]
    with pytest.raises(EcgedgeError, match=message):
        import_pclr(write_h5(tmp_path / "x.h5", tensors, n_samples=4096))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv1d_3/kernel": np.zeros((16, 128, 127))}, r"conv1d_3/kernel has the shape \(16, 128, 127\)"),
        ({"conv1d/kernel": np.full((16, 12, 64), np.nan)}, "conv1d/kernel holds values that are no finite"),
        ({"conv1d_13/kernel": np.zeros((16, 1, 1))}, "has 14 layers conv1d where PCLR has 13"),
        ({"conv1d/kernel": np.zeros((16, 8, 64))}, "a stem over 8 leads, 9 norms .* no published variant"),
        ({"conv1d/kernel": np.zeros(16)}, "a stem over 0 leads"),
    ],
)
def test_another_network_is_refused(changes, message, tmp_path):
    tensors = published_names(random_net("12")) | changes
    with pytest.raises(EcgedgeError, match=message):
        import_pclr(write_h5(tmp_path / "x.h5", tensors, n_samples=4096))


def test_another_length_is_refused(tmp_path):
    path = write_h5(tmp_path / "x.h5", published_names(random_net("12")), n_samples=5000)
    with pytest.raises(EcgedgeError, match="an input of 5000 samples, which is no published variant"):
        import_pclr(path)


def test_files_that_are_no_weights(tmp_path):
    pointer = tmp_path / "PCLR.h5"
    pointer.write_text(LFS_POINTER)
    with pytest.raises(EcgedgeError, match=r"is a Git LFS pointer.*run 'git lfs pull'"):
        import_pclr(pointer)
    with pytest.raises(EcgedgeError, match="cannot be read"):
        import_pclr(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(EcgedgeError, match=r"cannot be read as a Keras \.h5 file"):
        import_pclr(tmp_path / "text.h5")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["signal"] = np.zeros(5, np.float32)
        file.attrs["model_config"] = "not JSON"
    with pytest.raises(EcgedgeError, match="holds no Keras layer weights"):
        import_pclr(tmp_path / "empty.h5")


@given(cut=st.integers(0, 20_000), flip=st.integers(0, 20_000))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_damaged_h5_file_is_refused_or_read(cut, flip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    data = bytearray(
        write_h5(folder / "a.h5", {"conv1d/kernel": np.ones((2, 3, 4), np.float32)}).read_bytes()
    )
    data[flip % len(data)] ^= 0x55
    (folder / "b.h5").write_bytes(data[: len(data) - cut % len(data)] if cut % 3 == 0 else data)
    with contextlib.suppress(EcgedgeError):
        found = read_keras_h5(folder / "b.h5")
        assert all(value.dtype == np.float32 for value in found.tensors.values())


# --- SavedModel ---


def test_crc32c_of_the_standards_example():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def golden_value(shape, layer, i):
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape) / 8 + 10 * layer + i


def test_variables_that_keras_2_saved():
    found = read_saved_model(GOLDEN / "keras2")
    expected = {
        "conv1d/kernel": golden_value((4, 2, 3), 0, 0),
        "batch_normalization/gamma": golden_value((3,), 1, 0),
        "batch_normalization/beta": golden_value((3,), 1, 1),
        "batch_normalization/moving_mean": golden_value((3,), 1, 2),
        "batch_normalization/moving_variance": golden_value((3,), 1, 3),
        "projection/kernel": golden_value((3, 2), 2, 0),
        "projection/bias": golden_value((2,), 2, 1),
    }
    assert found.tensors.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found.tensors[key], value)
        assert found.tensors[key].dtype == np.float32
    assert found.input_shape is None


def test_a_whole_saved_model():
    found = read_saved_model(GOLDEN / "module")
    np.testing.assert_array_equal(found.tensors["conv1d/kernel"], golden_value((4, 2, 3), 0, 0))
    assert found.input_shape == (8, 2)


def test_index_entries():
    n_shards, entries = read_index((GOLDEN / "keras2" / "variables" / "variables.index").read_bytes())
    assert n_shards == 1
    assert OBJECT_GRAPH in entries
    kernel = entries["layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE"]
    assert (kernel.dtype, kernel.shape, kernel.shard, kernel.size) == (1, (4, 2, 3), 0, 96)


def varint(n):
    out = b""
    while n > 0x7F:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def part(number, value):
    """One field of a message: an integer, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(items, data):
    """Append a table's block to `data`; returns its handle."""
    body = b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in items)
    body += (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    crc = crc32c(body + b"\0")
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    handle = varint(len(data)) + varint(len(body))
    data += body + b"\0" + masked.to_bytes(4, "little")
    return handle


def write_saved_model(folder, tensors, *, n_samples=None, leads=12):
    """A SavedModel by the format's description, small enough to make in a test; two blocks of keys."""
    (folder / "variables").mkdir(parents=True)
    raw, entries, graph = b"", {}, b""
    for i, (name, value) in enumerate(tensors.items()):
        data = np.ascontiguousarray(value, "<f4").tobytes()
        shape = b"".join(part(2, part(1, n)) for n in value.shape)
        entries[f"variables/{i}"] = part(1, 1) + part(2, shape) + part(4, len(raw)) + part(5, len(data))
        attribute = part(1, b"VARIABLE_VALUE") + part(2, name.encode()) + part(3, f"variables/{i}".encode())
        graph += part(1, part(2, attribute))
        raw += data
    text = varint(len(graph)) + bytes(4) + graph
    entries[OBJECT_GRAPH] = part(1, 7) + part(4, len(raw)) + part(5, len(text))
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(raw + text)
    items = [(b"", part(1, 1)), *sorted((k.encode(), v) for k, v in entries.items())]
    data = bytearray()
    handles = [(chunk[-1][0], block(chunk, data)) for chunk in (items[:20], items[20:])]
    footer = block([], data) + block(handles, data)
    data += footer.ljust(40, b"\0") + 0xDB4775248B80FB57.to_bytes(8, "little")
    (folder / "variables" / "variables.index").write_bytes(data)
    if n_samples:
        shape = b"".join(part(2, part(1, n)) for n in (2**64 - 1, n_samples, leads))
        signature = part(1, part(1, b"ecg") + part(2, part(3, shape)))
        item = part(1, b"serving_default") + part(2, signature)
        (folder / "saved_model.pb").write_bytes(part(2, part(5, item)))
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_model_folders(variant, tmp_path):
    net = random_net(variant)
    spec = VARIANTS[variant]
    folder = write_saved_model(
        tmp_path / "m", published_names(net), n_samples=spec.n_samples, leads=len(spec.leads)
    )
    found = import_pclr(folder)
    assert found.variant == variant
    assert same_state(found, net)


def test_an_optimisers_moments_are_not_taken_for_weights(tmp_path):
    tensors = published_names(random_net("II"))
    moments = {f"Adam/m/{key}": np.zeros_like(value) for key, value in tensors.items()}
    folder = write_saved_model(tmp_path / "m", moments | tensors)
    assert import_pclr(folder).stem.weight.abs().sum() > 0


def test_saved_model_of_another_network():
    with pytest.raises(EcgedgeError, match="has no conv1d_1/kernel: PCLR has 13 layers conv1d, here are 1"):
        import_pclr(GOLDEN / "keras2")


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_saved_model_with_a_missing_or_pointer_file(name, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(GOLDEN / "keras2", folder)
    (folder / "variables" / name).unlink()
    with pytest.raises(EcgedgeError, match=f"{name} cannot be read"):
        read_saved_model(folder)
    (folder / "variables" / name).write_text(LFS_POINTER)
    with pytest.raises(EcgedgeError, match=f"{name} is a Git LFS pointer"):
        read_saved_model(folder)


def test_a_data_file_cut_short(tmp_path):
    shutil.copytree(GOLDEN / "keras2", tmp_path / "m")
    path = tmp_path / "m" / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EcgedgeError, match=r"variables\.data-00000-of-00001 ends before byte .*cut short"):
        read_saved_model(tmp_path / "m")


@given(position=st.integers(0, 10_000), bits=st.integers(1, 255), cut=st.booleans())
@settings(max_examples=80, deadline=None)
def test_a_damaged_index_never_gives_other_weights(position, bits, cut):
    good = (GOLDEN / "keras2" / "variables" / "variables.index").read_bytes()
    position %= len(good)
    bad = good[:position] if cut else good[:position] + bytes([good[position] ^ bits]) + good[position + 1 :]
    with contextlib.suppress(ValueError, IndexError, struct.error):
        # Padding and the unused meta index carry nothing.
        assert read_table(bad) == read_table(good)


@given(position=st.integers(0, 4135), bits=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_damaged_object_graph_is_refused_or_read(position, bits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "m"
    shutil.copytree(GOLDEN / "keras2", folder)
    path = folder / "variables" / "variables.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[position] ^= bits
    path.write_bytes(data)
    try:
        found = read_saved_model(folder)
    except EcgedgeError:
        return
    assert all(value.dtype == np.float32 for value in found.tensors.values())
