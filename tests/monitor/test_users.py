"""Users, tokens, sessions and rates: who may come in, for how long, and how often they may try."""

import os
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_parts import Clock

from ecgedge.errors import RecipeError, UsageError
from ecgedge.monitor.rates import MOST_BUCKETS, Rate, network_of
from ecgedge.monitor.sessions import IDLE_S, MOST_OF_USER, Sessions
from ecgedge.monitor.users import (
    Passwords,
    User,
    UsersBook,
    UsersFile,
    change_users,
    load_users,
    new_token,
    token_hash,
    write_users,
)

HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA"


def test_a_password_is_kept_as_argon2id_alone():
    argon2 = pytest.importorskip("argon2", reason="needs the extra page: pip install 'ecgedge[page]'")
    passwords = Passwords()
    kept = passwords.hash("correct horse battery")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert "horse" not in kept
    assert argon2.PasswordHasher().verify(kept, "correct horse battery"), "as the package itself says"
    assert passwords.holds(kept, "correct horse battery")
    assert not passwords.holds(kept, "correct horse batterz")
    assert not passwords.holds(None, "correct horse battery")
    assert not passwords.holds("$argon2id$damaged", "correct horse battery")
    assert not passwords.holds(kept, "correct horse battery" + " " * 300)
    assert passwords.hash("correct horse battery") != kept, "each has a salt of its own"
    for bad in ("short", "x" * 257):
        with pytest.raises(UsageError, match="10 to 256 characters"):
            passwords.hash(bad)


def test_tokens_are_random_and_only_their_hash_is_kept():
    (one, kept), (two, _) = new_token(), new_token()
    assert one != two
    assert len(one) >= len("ecgedge_") + 43, "256 bits"
    assert kept == token_hash(one)
    assert one not in kept


@settings(max_examples=25)
@given(st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=30))
def test_a_file_of_users_comes_back(tmp_path_factory, name):
    path = tmp_path_factory.mktemp("users") / "users.toml"
    users = UsersFile(
        (User(name, "view", HASH), User(f"{name}.", "admin", None, "0" * 64, "2027-01-31T00:00:00Z"))
    )
    write_users(path, users)
    assert load_users(path) == users
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[user]]\nname = "a"\nrole = "view"\n', "either password or token"),
        ('[[user]]\nname = "a"\nrole = "boss"\npassword = "$argon2id$"\n', "role"),
        ('[[user]]\nname = "a"\nrole = "view"\npassword = "secret"\n', "no argon2id hash"),
        (
            '[[user]]\nname = "a"\nrole = "view"\ntoken_sha256 = "x"\nexpires = "2027-01-31T00:00:00Z"\n',
            "SHA-256",
        ),
        (f'[[user]]\nname = "a"\nrole = "view"\ntoken_sha256 = "{"0" * 64}"\n', "needs expires"),
        (f'[[user]]\nname = "a"\nrole = "view"\npassword = "{HASH}"\nexpires = "2027-01-31"\n', "offset"),
        (f'[[user]]\nname = " a"\nrole = "view"\npassword = "{HASH}"\n', "printable"),
        (f'[[user]]\nname = "a"\nrole = "view"\npassword = "{HASH}"\n' * 2, "two users"),
        ("[[", "Expected|Cannot|Invalid|nd of"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused(tmp_path, text, says):
    path = tmp_path / "users.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(RecipeError, match=says):
        load_users(path)


@pytest.mark.parametrize("mode", [0o644, 0o602, 0o620])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path, mode):
    path = tmp_path / "users.toml"
    write_users(path, UsersFile())
    path.chmod(mode)
    with pytest.raises(UsageError, match="chmod 600"):
        load_users(path)


def test_two_of_one_name_are_not_written(tmp_path):
    user = User("a", "view", HASH)
    path = tmp_path / "users.toml"
    with pytest.raises(RecipeError, match="two users"):
        change_users(path, lambda _: UsersFile((user, user)))
    assert not path.exists()


def book_of(path, clock, said=None, now=lambda: datetime(2027, 1, 1, tzinfo=timezone.utc)):
    return UsersBook(path, now_s=clock.now_s, say=(said if said is not None else []).append, now=now)


def test_the_file_is_read_again_when_it_changes(tmp_path):
    path, clock, said = tmp_path / "users.toml", Clock(), []
    write_users(path, UsersFile((User("a", "view", HASH),)))
    book = book_of(path, clock, said)
    assert book.by_name("a").role == "view"
    write_users(path, UsersFile((User("b", "view", HASH),)))
    clock.s += 1.0
    assert book.by_name("a") is None, "who is struck is out"
    assert book.by_name("b") is not None
    path.write_text("[[")
    clock.s += 1.0
    assert book.by_name("b") is not None, "a torn file lets nobody in and nobody out"
    assert "stay as they were" in said[0]
    os.unlink(path)
    clock.s += 1.0
    assert book.by_name("b") is not None
    assert len(said) == 2


def test_what_has_ended_lets_nobody_in(tmp_path):
    path, clock = tmp_path / "users.toml", Clock()
    token, kept = new_token()
    ends = datetime(2027, 1, 1, tzinfo=timezone.utc)
    users = (User("p", "view", None, kept, ends.isoformat()), User("n", "view", HASH, None, ends.isoformat()))
    write_users(path, UsersFile(users))
    now = [ends - timedelta(seconds=1)]
    book = book_of(path, clock, now=lambda: now[0])
    assert book.by_token(token)[0].name == "p"
    assert book.by_token(token + "x") == (None, False)
    assert book.by_name("n") is not None
    now[0] = ends
    assert book.by_token(token) == (None, True)
    assert book.by_name("n") is None


@pytest.mark.parametrize("longest_s", [43_200.0, 86_400.0])
def test_sessions_end_by_idleness_and_by_age(longest_s):
    clock = Clock()
    sessions = Sessions(now_s=clock.now_s, longest_s=longest_s)
    name = sessions.begin("a", HASH)
    assert len(name) >= 43, "256 bits"
    clock.s += IDLE_S - 1.0
    assert sessions.use(name).user == "a"
    clock.s += IDLE_S - 1.0
    assert sessions.use(name) is not None, "being used keeps it"
    clock.s += IDLE_S
    assert sessions.use(name) is None
    other = sessions.begin("a", HASH)
    assert len(sessions) == 1, "what has ended is let go"
    began_s = clock.s
    while clock.s < began_s + longest_s - 100.0:
        clock.s += 100.0
        assert sessions.use(other) is not None
    clock.s = began_s + longest_s
    assert sessions.use(other) is None
    assert sessions.use("") is None


def test_sessions_are_bounded_and_ended_by_name():
    sessions = Sessions(now_s=Clock().now_s, longest_s=1e5)
    names = [sessions.begin("a", HASH) for _ in range(MOST_OF_USER + 1)]
    assert sessions.use(names[0]) is None
    assert sessions.use(names[1]) is not None
    sessions.end(names[1])
    sessions.end(names[1])
    assert sessions.use(names[1]) is None


def test_a_rate_is_so_many_at_once_and_then_so_often():
    clock = Clock()
    rate = Rate(burst=3, per_s=0.5, now_s=clock.now_s)
    assert [rate.take("a") for _ in range(4)] == [True, True, True, False]
    assert rate.take("b"), "each for itself"
    clock.s += 2.0
    assert [rate.take("a") for _ in range(2)] == [True, False]
    rate.give_back("a")
    assert rate.take("a")
    clock.s += 1e6
    assert [rate.take("a") for _ in range(4)] == [True, True, True, False], "no more than the burst gathers"


def test_a_rate_takes_no_more_room_however_many_ask():
    rate = Rate(burst=1, per_s=1, now_s=Clock().now_s)
    for k in range(MOST_BUCKETS + 100):
        rate.take(str(k))
    assert len(rate._buckets) == MOST_BUCKETS


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_network_counts_as_one(address, network):
    assert network_of(address) == network
