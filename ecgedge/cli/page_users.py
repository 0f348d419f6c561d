"""Commands on the file of users of a page: add, list, remove."""

from __future__ import annotations

import getpass
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgedge.cli.app import page_app, say
from ecgedge.errors import UsageError

if TYPE_CHECKING:
    from ecgedge.monitor.users import Role, User, UsersFile

UsersArgument = Annotated[Path, typer.Argument(help="The file of users (--page-users).")]
NameArgument = Annotated[str, typer.Argument(help="The user's name, as the journal will have it.")]

LONGEST_DAYS = 3650.0


@page_app.command("add")
def add(
    file: UsersArgument,
    name: NameArgument,
    role: Annotated[str, typer.Option(help="view, acknowledge or admin.")] = "view",
    token: Annotated[
        bool, typer.Option("--token", help="For a program: print a token, once, and keep its hash.")
    ] = False,
    days: Annotated[
        float | None, typer.Option(help="Let it end after so many days; a token ends after 90 without it.")
    ] = None,
) -> None:
    """Let a user see a page: by a password, asked for here or read from standard input, or by a token.

    Example: `ecgedge page add users.toml "Nurse Seven" --role acknowledge`
    """
    from ecgedge.monitor.users import Passwords, User, UsersFile, change_users, new_token

    chosen, ends = _role(role), _ends(90.0 if token and days is None else days)
    _check_name(name)
    secret = new_token() if token else None
    password = None if secret is not None else Passwords().hash(_ask_password(name))
    user = User(name, chosen, password, None if secret is None else secret[1], ends)

    def with_user(before: UsersFile) -> UsersFile:
        if any(old.name == name for old in before.user):
            raise UsageError(f"{file} has a user {name!r} already; remove it first, or choose another name")
        return UsersFile((*before.user, user))

    change_users(file, with_user)
    if secret is not None:
        typer.echo(secret[0])
        say(f"this token is shown once and ends {ends}; send it as: Authorization: Bearer TOKEN")


@page_app.command("list")
def list_users(file: UsersArgument) -> None:
    """Say who may see a page, and as what; no secret is among it.

    Example: `ecgedge page list users.toml`
    """
    from ecgedge.monitor.users import load_users

    for user in load_users(file).user:
        typer.echo(_line(user))


@page_app.command("remove")
def remove(file: UsersArgument, name: NameArgument) -> None:
    """Let a user see a page no more; who is looking is shown out within seconds.

    Example: `ecgedge page remove users.toml "Nurse Seven"`
    """
    from ecgedge.monitor.users import UsersFile, change_users

    def without(before: UsersFile) -> UsersFile:
        left = tuple(user for user in before.user if user.name != name)
        if len(left) == len(before.user):
            known = ", ".join(repr(user.name) for user in before.user) or "nobody"
            raise UsageError(f"{file} has no user {name!r}; it has {known}")
        return UsersFile(left)

    change_users(file, without)


def _line(user: User) -> str:
    means = "password" if user.password is not None else "token"
    over = user.has_expired(datetime.now(timezone.utc))
    ends = "" if user.expires is None else f"  {'ended' if over else 'until'} {user.expires}"
    return f"{user.role:12}{means:10}{user.name}{ends}"


def _role(text: str) -> Role:
    from ecgedge.monitor.users import ROLES

    for role in ROLES:
        if role == text:
            return role
    raise UsageError(f"--role is {text!r}; expected one of {', '.join(ROLES)}")


def _ends(days: float | None) -> str | None:
    if days is None:
        return None
    if not 0.0 < days <= LONGEST_DAYS:
        raise UsageError(f"--days is {days:g}; it must be above 0 and at most {LONGEST_DAYS:g}")
    return (datetime.now(timezone.utc) + timedelta(days=days)).isoformat(timespec="seconds")


def _check_name(name: str) -> None:
    from ecgedge.monitor.users import check_name

    try:
        check_name(name)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _ask_password(name: str) -> str:
    """Ask twice without echo; where standard input is no terminal, its first line is the password."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass(f"Password of {name}: ")
    if getpass.getpass("Again: ") != first:
        raise UsageError("the two passwords differ; nothing was written")
    return first
