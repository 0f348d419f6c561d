"""Wrong input: the right exit code, and one message that says what was seen and what to do."""

import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from ecgedge.cli import main

PATH_EMBEDDED = Path(str(resources.files("ecgedge"))) / "embedded.ecgb"
SIM = ("stream", "--feed", "sim:stable?duration_s=12", "--speed", "max")


def _stream(feed, *options):
    return ("stream", "--feed", feed, "--speed", "max", *options)


# (name, arguments, exit code, words of the message). The files they name are made by `folder`.
TABLE = [
    # usage: 2
    ("speed", (*SIM[:3], "--speed", "fast"), 2, ["--speed is 'fast'", "max or a factor above 0"]),
    ("speed-0", (*SIM[:3], "--speed", "0"), 2, ["--speed is '0'", "max or a factor above 0"]),
    ("speed-nan", (*SIM[:3], "--speed", "nan"), 2, ["--speed is 'nan'"]),
    ("format", (*SIM, "--format", "xml"), 2, ["--format is 'xml'", "expected text or jsonl"]),
    ("duration", (*SIM, "--duration", "-5"), 2, ["--duration is -5", "above 0"]),
    ("duration-nan", (*SIM, "--duration", "nan"), 2, ["--duration is nan", "above 0"]),
    ("sink", (*SIM, "--sink", "kafka:here"), 2, ["kafka:here", "jsonl:PATH", "bridge"]),
    ("sink-path", (*SIM, "--sink", "jsonl:no/such/folder/x"), 2, ["no/such/folder/x", "No such file"]),
    ("bridge-sink", (*SIM, "--sink", "bridge"), 2, ["tcp://", "sim:stable"]),
    ("demo-speed", ("demo", "--speed", "0"), 2, ["--speed", "above 0"]),
    ("no-feed", ("stream",), 2, ["--feed"]),
    ("command", ("strem",), 2, ["strem", "stream"]),
    ("option", (*SIM, "--sped", "1"), 2, ["--sped", "--speed"]),
    ("lead-sets", ("evaluate", "r", "--data", "d", "--out", "o", "--lead-sets", "I,V9"), 2, ["V9"]),
    ("lead-sets-comma", ("evaluate", "r", "--data", "d", "--out", "o", "--lead-sets", "12,I"), 2, ["12;I,II"]),
    ("train-into-file", ("train", "sim_mpcwp", "--data", "d", "--out", "notes.txt"), 2, ["notes.txt", "a file"]),
    ("report-into-file", ("evaluate", "r", "--data", "d", "--out", "notes.txt"), 2, ["notes.txt", "a file"]),
    ("replay-into-file", ("alarms", "replay", "--sim", "stable:1", "--out", "notes.txt"), 2, ["notes.txt", "a file"]),
    ("student-into-file", ("compress", "r", "--data", "d", "--out", "notes.txt"), 2, ["notes.txt", "a file"]),
    ("precision", ("export", "r", "--target", "cpu", "--data", "d", "--out", "o", "--precision", "int4"), 2,
     ["int4", "fp32, fp16, int8"]),
    ("form", ("export", "r", "--target", "cpu", "--data", "d", "--out", "o", "--form", "steps"), 2,
     ["steps", "window, stream or both"]),
    ("target", ("export", "r", "--target", "toaster", "--data", "d", "--out", "o"), 2, ["toaster", "cpu"]),
    ("set", ("data", "build", "sim", "--out", "o", "--set", "patients"), 2, ["key=value", "--set patients=64"]),
    ("source", ("data", "build", "mimic", "--out", "o"), 2, ["mimic", "ptbxl", "sim"]),
    ("source-option", ("data", "build", "sim", "--out", "o", "--set", "patient=3"), 2, ["patient", "patients"]),
    ("source-value", ("data", "build", "sim", "--out", "o", "--set", "patients=-3"), 2, ["patients", "-3"]),
    ("no-folder", ("data", "build", "ptbxl", "--out", "o"), 2, ["--from"]),
    ("ward-speed", ("ward", "--beds", "beds.toml", "--speed", "0"), 2, ["--speed is '0'"]),
    ("ward-form", ("ward", "--beds", "beds.toml", "--form", "steps"), 2, ["--form is 'steps'", "window or stream"]),
    ("ward-no-beds", ("ward",), 2, ["--beds"]),
    ("ward-runtime", ("ward", "--beds", "beds.toml", "--runtime", "abacus"), 2, ["abacus", "openvino"]),
    ("ward-socket", ("ward", "--beds", "letter.toml"), 2, ["notes.txt is no socket", "another name"]),
    ("ward-events", ("ward", "--beds", "nowhere.toml"), 2, ["cannot write events to", "no/such/x"]),
    ("tell-nobody", ("tell", "none.sock", "status"), 2, ["no ward listens on none.sock", "No such file"]),
    ("tell-fact", ("tell", "none.sock", "remove", "icu-3"), 2, ["'icu-3'", "key=value"]),
    ("tell-seconds", ("tell", "none.sock", "pause_audio", "duration_s=soon"), 2, ["'soon'", "expected seconds"]),
    # the work failed: 1
    ("ward-missing", ("ward", "--beds", "none.toml"), 1, ["none.toml", "No such file"]),
    ("ward-key", ("ward", "--beds", "key.toml"), 1, ["key.toml", "most_bed", "most_beds"]),
    ("no-record", ("records", "show", "nothing.hea"), 1, ["nothing.hea", "no such file", "WFDB"]),
    ("predict-no-record", ("predict", "embedded", "nothing.hea", "--out", "x.csv"), 1, ["nothing.hea"]),
    ("text-record", ("records", "show", "text.hea"), 1, ["text.hea", "WFDB"]),
    ("text-feed", _stream("file:text.hea"), 1, ["text.hea"]),
    ("unknown-format", ("records", "show", "notes.txt"), 1, ["notes.txt", ".txt", "ecgedge reads"]),
    ("folder-record", ("records", "show", "."), 1, ["a folder", "give one recording"]),
    ("file-gaps", _stream("file:gappy.npz"), 1, ["gappy.npz", "missing", "gaps=keep"]),
    ("predict-gaps", ("predict", "embedded", "gappy.npz", "--out", "x.csv"), 1, ["gappy.npz", "missing"]),
    ("all-nan", ("records", "show", "nan.npz"), 1, ["nan.npz", "every sample is missing"]),
    ("unknown-leads", ("records", "show", "leads.npz"), 1, ["leads.npz", "X1", "X2"]),
    ("rate", ("records", "show", "rate.npz"), 1, ["rate.npz", "-250"]),
    ("short", ("predict", "embedded", "short.npz", "--out", "x.csv"), 1, ["short.npz", "shorter", "10 s"]),
    ("policy-missing", (*SIM, "--policy", "none.toml"), 1, ["none.toml", "No such file"]),
    ("policy-text", (*SIM, "--policy", "notes.txt"), 1, ["notes.txt"]),
    ("policy-key", (*SIM, "--policy", "policy.toml"), 1, ["treshold_mmhg", "threshold_mmhg"]),
    ("policy-dead", (*SIM, "--policy", "dead.toml"), 1, ["dead.toml", "onset_probability"]),
    ("journal-text", (*SIM, "--journal", "notes.txt"), 1, ["notes.txt", "new file"]),
    ("journal-missing", ("journal", "verify", "none.jsonl"), 1, ["none.jsonl", "No such file"]),
    ("journal-size", (*SIM, "--journal", "j", "--journal-max-mb", "0"), 2, ["--journal-max-mb", "at least 0.001"]),
    ("journal-no-size", (*SIM, "--journal-max-mb", "5"), 2, ["--journal-max-mb", "--journal"]),
    ("journal-replay", ("journal", "replay", "notes.txt", "--feed", "sim:stable"), 1, ["notes.txt", "line 0"]),
    ("journal-verify", ("journal", "verify", "notes.txt"), 1, ["notes.txt", "line 0"]),
    ("recipe", ("train", "nosuch", "--data", "d", "--out", "o"), 1, ["nosuch", "sim_mpcwp"]),
    ("recipe-key", ("train", "sim_mpcwp", "--data", "d", "--out", "o", "--set", "optimizer.learning=1"), 1,
     ["learning", "optimizer"]),
    ("recipe-nearest", ("train", "recipe.toml", "--data", "d", "--out", "o"), 1, ["warmup_step", "warmup_steps"]),
    ("no-dataset", ("train", "sim_mpcwp", "--data", "d", "--out", "o"), 1, ["d", "data build"]),
    ("info-no-dataset", ("data", "info", "d"), 1, ["d", "data build"]),
    ("no-run", ("evaluate", "r", "--data", "d", "--out", "o"), 1, ["r", "run directory"]),
    ("ptbxl-folder", ("data", "build", "ptbxl", "--from", "none", "--out", "o"), 1, ["ptbxl_database.csv", "--from"]),
    ("recipe-section", ("train", "sim_mpcwp", "--data", "d", "--out", "o", "--set", "steps=3"), 1,
     ["'steps' stands in a section", "schedule.steps=3"]),
    ("recipe-toml", ("train", "bad.toml", "--data", "d", "--out", "o"), 1, ["bad.toml is no valid TOML", "line 1"]),
    ("policy-toml", (*SIM, "--policy", "bad.toml"), 1, ["bad.toml is no valid TOML", "line 1"]),
    ("ward-toml", ("ward", "--beds", "bad.toml"), 1, ["bad.toml is no valid TOML", "line 1"]),
    ("text-npz", ("records", "show", "text.npz"), 1, ["text.npz", "no zip archive", "write_npz"]),
    ("text-dicom", ("records", "show", "text.dcm"), 1, ["text.dcm", "no DICOM file", "export it again"]),
    ("text-edf", ("records", "show", "text.edf"), 1, ["text.edf", "not a readable EDF file", "export it again"]),
    ("text-xml", ("records", "show", "text.xml"), 1, ["text.xml", "no XML in spite of its name"]),
    ("text-vital", ("records", "show", "text.vital"), 1, ["text.vital", "not a readable .vital", "export it again"]),
    ("lonely-header", ("records", "show", "lonely.hea"), 1, ["there.dat", "the header names it", "fetch it too"]),
    ("csv-columns", ("data", "build", "folder", "--from", "semicolons", "--out", "o"), 1,
     ["labels.csv", "has semicolons between its cells", "save it with commas"]),
    ("csv-missing", ("data", "build", "folder", "--from", "none", "--out", "o"), 1, ["labels.csv", "csv= must name"]),
    ("folder-without", ("alarms", "replay", "semicolons", "--out", "o"), 1, ["no recording in this folder", ".hea"]),
    # the feed: 3
    ("scheme", _stream("http://x"), 3, ["http", "sim:", "file:", "tcp:"]),
    ("no-scheme", _stream("record.hea"), 3, ["record.hea", "sim:stable", "to play a recording: file:record.hea"]),
    ("scenario", _stream("sim:sick"), 3, ["sick", "stable", "decompensating"]),
    ("sim-option", _stream("sim:stable?sed=1"), 3, ["sed", "seed"]),
    ("sim-seed", _stream("sim:stable?seed=x"), 3, ["seed is 'x', not a whole number", "sim:NAME?seed=1"]),
    ("sim-rate", _stream("sim:stable?rate_hz=-500"), 3, ["rate_hz", "-500"]),
    ("sim-chunk", _stream("sim:stable?chunk_ms=1e300"), 3, ["chunk_ms", "1e300"]),
    ("sim-leads", _stream("sim:stable?leads=I,V9"), 3, ["V9"]),
    ("file-leads", _stream("file:short.npz?leads=I,aVR,V9"), 3, ["V9"]),
    ("empty-feed", _stream("file:empty.npz"), 1, ["empty.npz"]),
    ("tcp-refused", _stream("tcp://127.0.0.1:9?leads=I&rate_hz=500&lsb_nv=1000"), 3, ["127.0.0.1:9", "cannot connect"]),
    ("tcp-uri", _stream("tcp://127.0.0.1?leads=I"), 3, ["host and port", "for example tcp://"]),
    # the bundle: 4
    ("no-bundle", ("bundle", "show", "none.ecgb"), 4, ["none.ecgb", "no bundle (nothing there)", "embedded"]),
    ("text-bundle", ("bundle", "show", "notes.txt"), 4, ["notes.txt", "not a bundle"]),
    ("run-bundle", ("bundle", "show", "run"), 4, ["run of training", "ecgedge export run"]),
    ("empty-bundle", ("bundle", "verify", "."), 4, ["without manifest.json"]),
]  # fmt: skip


def _npz(path, samples_mv, *, rate_hz=250.0, leads=("I", "II")):
    np.savez(path, samples_mv=np.asarray(samples_mv, np.float32), rate_hz=rate_hz, leads=np.array(leads))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All the wrong files."""
    folder = tmp_path_factory.mktemp("wrong")
    ecg = np.random.default_rng(0).normal(0.0, 0.1, (2, 5000))
    gappy = ecg.copy()
    gappy[:, 1000:1250] = np.nan
    _npz(folder / "gappy.npz", gappy)
    _npz(folder / "nan.npz", np.full((2, 5000), np.nan))
    _npz(folder / "leads.npz", ecg, leads=("X1", "X2"))
    _npz(folder / "rate.npz", ecg, rate_hz=-250.0)
    _npz(folder / "short.npz", ecg[:, :1250])
    _npz(folder / "empty.npz", ecg[:, :0])
    (folder / "text.hea").write_text("Dear reader, this is a letter.\nIt holds no heartbeat.\n")
    (folder / "notes.txt").write_text("a note, and nothing else\n")
    for suffix in ("npz", "dcm", "edf", "xml", "vital"):
        (folder / f"text.{suffix}").write_text("a note, and nothing else\n" * 20)
    (folder / "lonely.hea").write_text("lonely 1 100 1000\nthere.dat 16 1000(0)/mV 16 0 0 0 0 II\n")
    (folder / "bad.toml").write_text("a = = 3\n")
    (folder / "semicolons").mkdir()
    (folder / "semicolons" / "labels.csv").write_text("a;b\n1;2\n")
    (folder / "run").mkdir()
    for name in ("recipe.toml", "data.json"):
        (folder / "run" / name).write_text("")
    (folder / "policy.toml").write_text("treshold_mmhg = 18.0\n")
    (folder / "dead.toml").write_text("onset_probability = 1.5\n")
    (folder / "beds.toml").write_text("")
    (folder / "key.toml").write_text("[ward]\nmost_bed = 3\n")
    (folder / "letter.toml").write_text('[ward]\ncontrol = "notes.txt"\n')
    (folder / "nowhere.toml").write_text('[ward]\nevents = "no/such/x"\n')
    (folder / "recipe.toml").write_text(
        'name = "x"\n[data]\nsource = "sim"\n[objective]\nname = "hemodynamics"\n'
        "[schedule]\nsteps = 9\nwarmup_step = 1\n"
    )
    return folder


@pytest.mark.parametrize(
    ("arguments", "exits", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_wrong_input_is_refused_with_a_way_on(monkeypatch, capsys, folder, arguments, exits, words):
    # In this process: a hundred starts of Python would show nothing more. What is no error of ours comes through.
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["ecgedge", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    assert caught.value.code == exits, said.err
    for word in words:
        assert word in said.err
    assert "ecgedge" in said.err
    assert not (folder / "o").exists()
    assert not (folder / "x.csv").exists()


def test_a_gap_is_kept_where_it_is_asked_for(cli, gappy_recording):
    events = cli.stream(f"file:{gappy_recording}?gaps=keep")
    by_time = {e["t_s"]: e["validity"] for e in events if e["type"] == "estimate"}
    assert by_time[15.0] == by_time[20.0] == "invalid"
    assert by_time[30.0] == "valid"
    assert "missing" in cli("records", "show", gappy_recording).stdout.lower()


@pytest.mark.parametrize(
    ("arguments", "exits"),
    [
        ((*SIM, "--format", "xml"), 2),
        (("records", "show", "nothing.hea"), 1),
        (_stream("http://x"), 3),
        (("bundle", "show", "none.ecgb"), 4),
    ],
)
def test_the_shell_sees_the_exit_code_and_one_line(cli, arguments, exits):
    done = cli(*arguments, exits=exits)
    assert done.stdout == ""
    assert done.stderr.startswith("ecgedge: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("predict", "embedded", "RECORDING", "--out", "no/such/folder/x.csv"), "no/such/folder/x.csv"),
        (("predict", "embedded", "RECORDING", "--out", "."), "."),
        ((*SIM, "--sink", "jsonl:/dev/full"), "/dev/full"),
        (("data", "build", "sim", "--set", "patients=3", "--out", "/proc/data"), "/proc/data"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(cli, recording, arguments, words):
    done = cli(*(recording if word == "RECORDING" else word for word in arguments), exits=1)
    assert words in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ecgedge: ")


def test_an_unreadable_policy_is_refused(cli, tmp_path):
    (tmp_path / "folder.toml").mkdir()
    done = cli(*SIM, "--policy", "folder.toml", exits=1)
    assert "folder.toml" in done.stderr


# --- bundles: one flipped bit --------------------------------------------------------------------------


FILES = [
    path.relative_to(PATH_EMBEDDED).as_posix() for path in sorted(PATH_EMBEDDED.rglob("*")) if path.is_file()
]
ONE_OF_EACH = [
    "manifest.json",
    "selftest.npz",
    "card.md",
    next(name for name in FILES if name.endswith("model.onnx")),
]


def _flip_one_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01
    path.write_bytes(bytes(data))


@pytest.fixture
def flipped(tmp_path):
    """A copy of the embedded bundle with one bit flipped in one file."""

    def make(name):
        copy = tmp_path / "copy.ecgb"
        shutil.copytree(PATH_EMBEDDED, copy)
        _flip_one_bit(copy / name)
        return copy

    return make


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_one_flipped_bit_is_found(cli, flipped, name):
    done = cli("bundle", "verify", flipped(name), exits=4)
    assert name in done.stderr
    assert "copy the bundle again" in done.stderr


def test_no_command_serves_an_altered_bundle(cli, flipped, recording, tmp_path):
    bundle = flipped(ONE_OF_EACH[-1])
    cli(*SIM, "--bundle", bundle, exits=4)
    cli("predict", bundle, recording, "--out", "x.csv", exits=4)
    assert not (tmp_path / "x.csv").exists()


# --- a machine without the package ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("onnxruntime", "ort", SIM),
        ("onnxruntime", "ort", ("bundle", "verify", "embedded")),
        ("wfdb", "records", ("records", "show", "RECORD")),
        ("torch", "train", ("train", "sim_mpcwp", "--data", "d", "--out", "o")),
        ("pyarrow", "train", ("data", "build", "sim", "--out", "o")),
        ("sklearn", "train", ("evaluate", "r", "--data", "d", "--out", "o")),
        ("onnx", "export", ("export", "r", "--target", "cpu", "--data", "d", "--out", "o")),
    ],
)
def test_a_missing_package_is_named_with_its_extra(cli, ecg_data, package, extra, arguments):
    record = ecg_data / "ludb" / "data" / "1.hea"
    # OpenVINO would serve in place of ONNX Runtime.
    others = ["openvino"] if package == "onnxruntime" else []
    done = cli.without([package, *others], *(record if word == "RECORD" else word for word in arguments))
    assert f"pip install 'ecgedge[{extra}]'" in done.stderr
    assert f"'{package}'" in done.stderr


def test_the_device_needs_no_training_package(cli, tmp_path):
    packages = ["torch", "onnx", "wfdb", "pydicom", "pyarrow", "sklearn", "matplotlib", "safetensors"]
    done = cli.without(packages, *SIM, "--format", "jsonl", exits=0)
    assert '"type":"summary"' in done.stdout
