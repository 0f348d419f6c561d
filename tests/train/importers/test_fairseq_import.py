"""fairseq-signals checkpoints: the reference's numbers out, nothing that a pickle asks for done."""

import importlib.util
import json
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import zipfile
from argparse import Namespace  # noqa: TID251 - what real checkpoints carry
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgedge.errors import EcgedgeError
from ecgedge_train.encoders.w2v import W2vEncoder
from ecgedge_train.importers.fairseq_signals import import_fairseq_signals, rename_weights
from ecgedge_train.importers.restricted_pickle import (
    Inert,
    read_torch_checkpoint,
    read_torch_state_dict,
)

spec = importlib.util.spec_from_file_location("w2v_reference", Path(__file__).parents[1] / "w2v_reference.py")
w2v_reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(w2v_reference)

POSITIONAL = "conv_pos.pos_conv.0."
OLD_NAMES = {
    f"{POSITIONAL}parametrizations.weight.original0": f"{POSITIONAL}weight_g",
    f"{POSITIONAL}parametrizations.weight.original1": f"{POSITIONAL}weight_v",
}


def save(path, weights, **others):
    """A checkpoint as fairseq writes it, with the kinds of objects that real ones carry along."""
    checkpoint = {
        "args": Namespace(arch="wav2vec2_cmsc", lr=[5e-5]),
        "cfg": {"model": {"encoder_attention_heads": 4}, "path": pathlib.PurePosixPath("/data")},
        "model": OrderedDict(weights),
        "optimizer_history": [{"num_updates": 7, "lr": np.float64(5e-5)}],
        "extra_state": {"metrics": defaultdict(list, loss=[1.0]), "kinds": {"train", "valid"}},
        "last_optimizer_state": {"exp_avg": torch.zeros(3)},
        **others,
    }
    torch.save(checkpoint, path)
    return path


@pytest.fixture
def weights(oracles, det):
    return w2v_reference.tiny_weights(oracles, det)


@pytest.fixture
def forward(oracles):
    stored = np.load(oracles / "w2v_tiny_forward.npz")
    return torch.from_numpy(stored["x"]), stored["y"]


class TestImport:
    @pytest.mark.parametrize("names", [{}, OLD_NAMES])
    def test_embeds_as_the_reference(self, tmp_path, weights, forward, names):
        x, expected = forward
        path = save(tmp_path / "a.pt", {names.get(name, name): value for name, value in weights.items()})
        encoder = import_fairseq_signals(path, resample_samples=0)
        assert not encoder.training
        assert encoder.size == w2v_reference.TINY
        with torch.inference_mode():
            context = encoder.tokens(x, torch.ones(4, 12)).context.numpy()
            pooled = encoder(x, torch.ones(4, 12)).numpy()
        assert np.linalg.norm(context - expected) / np.linalg.norm(expected) < 1e-5
        np.testing.assert_allclose(pooled, expected.mean(axis=1), atol=2e-6)

    @pytest.mark.parametrize(("layers", "size"), [(12, "base"), (8, "small")])
    def test_knows_all_published_names_and_shapes(self, oracles, layers, size):
        listed = json.loads((oracles / "fairseq_signals_state_dict.json").read_text())["base_keys"]
        kept = [n for n in listed if not n.startswith("encoder.layers.") or int(n.split(".")[2]) < layers]
        with torch.device("meta"):
            weights = rename_weights({name: torch.empty(listed[name]) for name in kept}, Path("base"))
            expected = W2vEncoder(size=size).state_dict()
        shapes = {n: tuple(p.shape) for n, p in expected.items() if not n.startswith("lead_shift.")}
        assert {name: tuple(value.shape) for name, value in weights.items()} == shapes

    def test_takes_our_windows_of_10_s_as_312_tokens(self, tmp_path, weights):
        encoder = import_fairseq_signals(save(tmp_path / "a.pt", weights))
        assert encoder.n_tokens(2500) == 312
        assert encoder(torch.randn(1, 12, 2500), torch.ones(1, 12)).shape == (1, 32)

    def test_half_precision_weights(self, tmp_path, weights, forward):
        path = save(tmp_path / "a.pt", {name: value.half() for name, value in weights.items()})
        encoder = import_fairseq_signals(path, resample_samples=0)
        assert {p.dtype for p in encoder.parameters()} == {torch.float32}
        y = encoder.tokens(forward[0], torch.ones(4, 12)).context.detach().numpy()
        assert np.linalg.norm(y - forward[1]) / np.linalg.norm(forward[1]) < 5e-3

    def test_heads_can_be_told_where_the_configuration_cannot_be_read(self, tmp_path, weights, forward):
        path = save(tmp_path / "a.pt", weights, cfg=Namespace(model=None))
        with pytest.raises(EcgedgeError, match="12 heads"):
            import_fairseq_signals(path)
        y = import_fairseq_signals(path, resample_samples=0, heads=4)(forward[0], torch.ones(4, 12))
        np.testing.assert_allclose(y.detach(), forward[1].mean(axis=1), atol=2e-6)

    def test_names_what_it_does_not_know(self, tmp_path, weights):
        weights |= {"proj.weight": torch.ones(2), "encoder.w2v_model.mask_emb": torch.ones(2)}
        with pytest.raises(EcgedgeError, match=r"2 entries .*proj\.weight, encoder\.w2v_model\.mask_emb"):
            import_fairseq_signals(save(tmp_path / "a.pt", weights))

    @pytest.mark.parametrize("name", ["post_extract_proj.weight", "encoder.layers.0.fc2.bias", "mask_emb"])
    def test_names_what_is_missing(self, tmp_path, weights, name):
        del weights[name]
        ours = next(iter(rename_weights({name: torch.ones(1)}, Path("x"))))
        with pytest.raises(EcgedgeError, match=ours.replace(".", r"\.")):
            import_fairseq_signals(save(tmp_path / "a.pt", weights))

    def test_refuses_other_shapes(self, tmp_path, weights):
        weights["layer_norm.weight"] = torch.ones(17)
        with pytest.raises(EcgedgeError, match="does not fit"):
            import_fairseq_signals(save(tmp_path / "a.pt", weights))


class TestReader:
    def test_equals_torch_load(self, tmp_path):
        base = torch.arange(24.0).reshape(4, 6)
        tensors = {
            "float": base, "view": base[1:, ::2], "transposed": base.T, "scalar": torch.tensor(3.5),
            "empty": torch.zeros(0, 3), "double": base.double(), "half": base.half(), "bf16": base.bfloat16(),
            "long": torch.arange(5), "int": torch.arange(5).int(), "short": torch.arange(5).short(),
            "bytes": torch.arange(5).byte(), "chars": torch.arange(5).char(), "bool": torch.tensor([True, False]),
            "parameter": torch.nn.Parameter(base),
        }  # fmt: skip
        torch.save({"model": tensors}, tmp_path / "a.pt")
        found = read_torch_state_dict(tmp_path / "a.pt")
        expected = torch.load(tmp_path / "a.pt", weights_only=True)["model"]
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert found[name].dtype == value.dtype
            assert torch.equal(found[name], value)
        found["float"].zero_()
        assert found["view"].abs().sum() > 0  # memory of its own

    def test_a_bare_state_dict(self, tmp_path):
        net = torch.nn.Linear(3, 2)
        torch.save(net.state_dict(), tmp_path / "a.pt")
        found = read_torch_state_dict(tmp_path / "a.pt", key=None)
        assert torch.equal(found["weight"], net.weight)

    def test_plain_data_stays_plain_and_the_rest_is_inert(self, tmp_path, weights):
        found = read_torch_checkpoint(save(tmp_path / "a.pt", weights))
        assert found["cfg"]["model"] == {"encoder_attention_heads": 4}
        assert found["extra_state"] == {"metrics": {"loss": [1.0]}, "kinds": {"train", "valid"}}
        assert isinstance(found["args"], Inert)
        assert type(found["args"]).__name__ == "Namespace"
        assert not hasattr(found["args"], "lr")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"optimizer": 1}, r"no entry 'model', it holds \['optimizer'\]"),
            ([1, 2], "no entry 'model', it holds list"),
            ({"model": 3}, "no state dict but int"),
            ({"model": {}}, "no state dict"),
            ({"model": {"a": 3}}, "entry 'a' is no tensor but int"),
            ({"model": {"a": pathlib.PurePosixPath("x")}}, "entry 'a' is no tensor but PurePosixPath"),
            ({"model": {3: torch.ones(1)}}, "entry 'int' is no tensor"),
        ],
    )
    def test_says_what_it_found_instead(self, tmp_path, content, message):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(EcgedgeError, match=message):
            read_torch_state_dict(tmp_path / "a.pt")

    def test_refuses_files_of_other_formats(self, tmp_path):
        with pytest.raises(EcgedgeError, match="cannot be read"):
            read_torch_checkpoint(tmp_path / "none.pt")
        (tmp_path / "text.pt").write_text("version https://git-lfs.github.com/spec/v1")
        with pytest.raises(EcgedgeError, match="no zip archive"):
            read_torch_checkpoint(tmp_path / "text.pt")
        torch.save({"a": 1}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
        with pytest.raises(EcgedgeError, match="weights_only=True"):
            read_torch_checkpoint(tmp_path / "old.pt")
        with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
            archive.writestr("readme.txt", "hello")
        with pytest.raises(EcgedgeError, match=r"without a data\.pkl"):
            read_torch_checkpoint(tmp_path / "zip.pt")


def archive(path, program, members=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as out:
        out.writestr("archive/data.pkl", program)
        for name, content in dict(members).items():
            out.writestr(f"archive/{name}", content)
    return path


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Mined:
    """Does something when it is given its state."""

    went_off: ClassVar = []

    def __setstate__(self, state):
        self.went_off.append(state)

    def __reduce__(self):
        return (Mined, (), {"x": 1})


class TestMalice:
    @pytest.mark.parametrize("protocol", [0, 2, 4])
    @pytest.mark.parametrize("kind", ["system", "eval", "exec", "popen", "write", "nested"])
    def test_calls_are_not_made(self, tmp_path, protocol, kind):
        trace = tmp_path / "trace"
        code = f"open({str(trace)!r}, 'w').close()"
        bomb = {
            "system": Call(os.system, f"touch {trace}"),
            "eval": Call(eval, code),
            "exec": Call(exec, code),
            "popen": Call(subprocess.check_call, ["touch", str(trace)]),
            "write": Call(pathlib.Path.touch, trace),
            "nested": Call(dict, [("a", Call(eval, code))]),
        }[kind]
        program = pickle.dumps({"model": {"a": bomb}}, protocol=protocol)
        with pytest.raises(EcgedgeError):
            read_torch_state_dict(archive(tmp_path / "a.pt", program))
        found = read_torch_checkpoint(tmp_path / "a.pt")
        assert isinstance(found["model"]["a"], Inert)
        assert not trace.exists()
        pickle.loads(program)  # noqa: S301 - that the bomb is one
        assert trace.exists()

    def test_states_are_not_set(self, tmp_path):
        program = pickle.dumps({"a": Mined()})
        found = read_torch_checkpoint(archive(tmp_path / "a.pt", program))
        assert isinstance(found["a"], Inert)
        assert Mined.went_off == []
        pickle.loads(program)  # noqa: S301 - that the state would be set
        assert Mined.went_off == [{"x": 1}]

    def test_nothing_is_imported(self, tmp_path):
        assert "antigravity" not in sys.modules
        found = read_torch_checkpoint(archive(tmp_path / "a.pt", b"cantigravity\nfly\n."))
        assert issubclass(found, Inert)
        assert "antigravity" not in sys.modules

    @pytest.mark.parametrize(
        "name",
        [b"torch._utils\n_rebuild_tensor_v2", b"torch._utils\n_rebuild_parameter", b"collections\ndefaultdict",
         b"collections\nOrderedDict", b"torch\nSize", b"builtins\nset", b"torch\nFloatStorage"],
    )  # fmt: skip
    @pytest.mark.parametrize("state", [b"}(S'x'\nI1\nu", b"(N}(S'__defaults__'\n(I1\ntut"])
    def test_the_table_itself_cannot_be_changed(self, tmp_path, name, state):
        with pytest.raises(EcgedgeError):
            read_torch_checkpoint(archive(tmp_path / "a.pt", b"c" + name + b"\n" + state + b"b."))

    @pytest.mark.parametrize(
        ("program", "message"),
        [
            (b"Pmodule://etc\n.", "outside of itself"),
            (b"S'x'\nQ.", "outside of itself"),
            (b"(S'storage'\nS'float'\nS'0'\nS'cpu'\nI4\ntQ.", "FloatStorage"),
            (b"(S'storage'\nctorch\nFloatStorage\nI0\nS'cpu'\nI4\ntQ.", "without name"),
            (b"\x82\x01.", "extension registry"),
            (b"Nr" + struct.pack("<I", 4_000_000_000) + b".", "numbers an object 4000000000"),
            (b"Np3000000000\n.", "numbers an object"),
            (b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b".", "cannot be read as a checkpoint"),
            (b"(lp0\n", "cannot be read as a checkpoint"),
            (b"", "cannot be read as a checkpoint"),
            (b"I1\nI2\nR.", "cannot be read as a checkpoint"),
        ],
    )
    def test_odd_programs_are_refused(self, tmp_path, program, message):
        with pytest.raises(EcgedgeError, match=message):
            read_torch_checkpoint(archive(tmp_path / "a.pt", program))

    @pytest.mark.parametrize(
        ("layout", "message"),
        [
            ("I0\n(I5\nt(I1\nt", "5 numbers, the last at 4, in a storage of 4"),
            ("I2\n(I3\nt(I1\nt", "the last at 4, in a storage of 4"),
            ("I0\n(I2\nI2\nt(I3\nI1\nt", "the last at 4"),
            ("I0\n(I1000000000000\nt(I0\nt", "1000000000000 numbers"),
            ("I-1\n(I2\nt(I1\nt", "without storage, shape or strides"),
            ("I0\n(I2\nt(I-1\nt", "without storage, shape or strides"),
            ("I0\n(I2\nI2\nt(I1\nt", "cannot be read"),
            ("I0\n(S'2'\nt(I1\nt", "without storage, shape or strides"),
        ],
    )
    def test_tensors_stay_within_their_storage(self, tmp_path, layout, message):
        storage = "(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ"
        program = f"(dS'model'\n(dS'a'\nctorch._utils\n_rebuild_tensor_v2\n({storage}{layout}I00\nNtRss."
        path = archive(tmp_path / "a.pt", program.encode(), {"data/0": bytes(16)})
        with pytest.raises(EcgedgeError, match=message):
            read_torch_state_dict(path)

    def test_this_layout_within_the_storage_is_read(self, tmp_path):
        storage = "(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\ntQ"
        layout = "I1\n(I3\nt(I1\nt"
        program = f"(dS'model'\n(dS'a'\nctorch._utils\n_rebuild_tensor_v2\n({storage}{layout}I00\nNtRss."
        numbers = np.arange(4, dtype="<f4").tobytes()
        path = archive(tmp_path / "a.pt", program.encode(), {"data/0": numbers})
        assert read_torch_state_dict(path)["a"].tolist() == [1, 2, 3]
        for content, message in ((numbers[:-1], "15 bytes, not 16"), (None, "cannot be read")):
            path = archive(tmp_path / "a.pt", program.encode(), {"data/0": content} if content else {})
            with pytest.raises(EcgedgeError, match=message):
                read_torch_state_dict(path)
        archive(tmp_path / "a.pt", program.encode(), {"byteorder": b"big"})
        with pytest.raises(EcgedgeError, match="big-endian"):
            read_torch_checkpoint(tmp_path / "a.pt")

    def test_compressed_members_are_refused(self, tmp_path):
        archive(tmp_path / "a.pt", pickle.dumps([0] * 10_000), compression=zipfile.ZIP_DEFLATED)
        with pytest.raises(EcgedgeError, match="compressed"):
            read_torch_checkpoint(tmp_path / "a.pt")

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_damage_raises_our_error_or_nothing(self, tmp_path, data):
        torch.save({"model": {"a": torch.ones(3)}, "args": Namespace(x=1)}, tmp_path / "whole.pt")
        with zipfile.ZipFile(tmp_path / "whole.pt") as whole:
            program = bytearray(whole.read("whole/data.pkl"))
        for _ in range(data.draw(st.integers(1, 4))):
            program[data.draw(st.integers(0, len(program) - 1))] = data.draw(st.integers(0, 255))
        path = archive(tmp_path / "a.pt", bytes(program), {"data/0": np.ones(3, "<f4").tobytes()})
        try:
            found = read_torch_state_dict(path)
        except EcgedgeError:
            return
        assert all(isinstance(value, torch.Tensor) for value in found.values())
