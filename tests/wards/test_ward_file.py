"""The ward's file: what it says, and what is refused with the place and the nearest key."""

import pytest

from ecgedge.errors import RecipeError
from ecgedge.feeds.file import parse_file_uri
from ecgedge.wards.config import BedConfig, WardConfig, WardSettings, load_ward

BED = '[[bed]]\nname = "icu-3"\nfeed = "sim:stable"\n'


@pytest.fixture
def load(tmp_path):
    def write_and_load(text):
        path = tmp_path / "beds.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_ward(path)

    return write_and_load


def test_an_empty_file_is_a_ward_without_beds(load):
    assert load("") == WardConfig(WardSettings(), ())


def test_all_that_it_may_say(load, tmp_path):
    found = load(
        '[ward]\nmost_beds = 2\njournals = "j"\njournal_max_mb = 0.5\nstate = "s"\nstate_s = 3\n'
        'events = "e.jsonl"\ncontrol = "/run/ward.sock"\n' + BED + 'policy = "icu.toml"\n'
    )
    assert found == WardConfig(
        WardSettings(
            2, str(tmp_path / "j"), 0.5, str(tmp_path / "s"), 3.0, str(tmp_path / "e.jsonl"), "/run/ward.sock"
        ),
        (BedConfig("icu-3", "sim:stable", str(tmp_path / "icu.toml")),),
    )


def test_paths_are_relative_to_the_file_and_not_to_the_caller(load, tmp_path, monkeypatch):
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    found = load('[ward]\nstate = "../state"\nevents = "-"\n')
    assert found.ward.state == str(tmp_path / "../state")
    assert found.ward.events == "-"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:a b.npz?gaps=keep", "{folder}/a b.npz"),
        ("file://a%20b.npz", "{folder}/a b.npz"),
        ("file:/abs/x.npz", "/abs/x.npz"),
        ("file:///abs/x.npz?loop=1", "/abs/x.npz"),
    ],
)
def test_so_is_the_path_of_a_file_feed(tmp_path, uri, path):
    folder = tmp_path / "100% ?"  # signs that mean something in a URI
    folder.mkdir()
    (folder / "beds.toml").write_text(BED.replace("sim:stable", uri))
    (bed,) = load_ward(folder / "beds.toml").bed
    found, options = parse_file_uri(bed.feed)
    assert found == path.format(folder=folder)
    assert options == parse_file_uri(uri)[1]


@pytest.mark.parametrize("uri", ["tcp://10.0.0.7:7000?leads=I&rate_hz=500&lsb_nv=1000", "file:", "nonsense"])
def test_every_other_feed_stays_as_it_is(load, uri):
    (bed,) = load(BED.replace("sim:stable", uri)).bed
    assert bed.feed == uri


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ward]\nmost_bed = 3", ["unknown key 'ward.most_bed'", "'most_beds'"]),
        ("[ward]\njournal = 'x'", ["unknown key 'ward.journal'", "'journals'"]),
        ("[wards]\n", ["unknown key 'wards'", "'ward'"]),
        ("[[beds]]\nname = 'a'", ["unknown key 'beds'", "'bed'"]),
        (BED + "fed = 'sim:x'", ["unknown key 'bed[0].fed'", "'feed'"]),
        ("[[bed]]\nfeed = 'sim:stable'", ["missing key 'bed[0].name'"]),
        (BED + "[[bed]]\nname = 'b'", ["missing key 'bed[1].feed'"]),
        ("[ward]\nmost_beds = 0", ["most_beds is 0", "at least 1"]),
        ("[ward]\nmost_beds = 2.5", ["ward.most_beds", "2.5"]),
        ("[ward]\nmost_beds = true", ["ward.most_beds", "True"]),
        ("[ward]\nstate_s = 0", ["state_s is 0", "above 0"]),
        ("[ward]\nstate_s = 3600", ["state_s is 3600", "below 3600"]),
        ("[ward]\nstate_s = nan", ["state_s is nan"]),
        ("[ward]\njournal_max_mb = 5", ["journal_max_mb without journals"]),
        ("[ward]\njournals = 'j'\njournal_max_mb = 0", ["journal_max_mb is 0", "0.001"]),
        ("[ward]\njournals = 'j'\njournal_max_mb = 1e-9", ["journal_max_mb is 1e-09", "0.001"]),
        ("[ward]\njournals = 'j'\njournal_max_mb = inf", ["journal_max_mb is inf"]),
        ("[ward]\njournals = 'j'\njournal_max_mb = nan", ["journal_max_mb is nan"]),
        ("[ward]\nevents = 7", ["ward.events", "7"]),
        (BED + BED, ["two beds are called icu-3"]),
        ("[ward]\nmost_beds = 1\n" + BED + BED.replace("3", "4"), ["there are 2 beds", "most_beds is 1"]),
        (BED.replace("icu-3", "../icu"), ["bed[0]", "'../icu'", "letters, digits"]),
        (BED.replace("icu-3", ".icu"), ["'.icu'"]),
        (BED.replace("icu-3", ""), ["name is ''"]),
        (BED.replace("icu-3", "b" * 65), ["up to 64 letters"]),
        (BED.replace("icu-3", "bed 3"), ["'bed 3'"]),
        (BED.replace("icu-3", "größe"), ["'größe'"]),
        ('[[bed]]\nname = "a\\n"\nfeed = "sim:x"', [r"'a\n'"]),
        ("ward = 3", ["ward", "expected a table", "3"]),
        ("[ward", ["Expected ']'"]),
        (b"\xff\xfe", ["beds.toml", "utf-8"]),
    ],
)
def test_what_cannot_be_is_refused(load, text, words):
    with pytest.raises(RecipeError) as caught:
        load(text)
    for word in ["beds.toml", *words]:
        assert word in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"cannot read the ward .*none.toml: No such file"):
        load_ward(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="Is a directory"):
        load_ward(tmp_path)
