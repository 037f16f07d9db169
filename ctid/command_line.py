"""What all commands have in common: where the settings are, and errors in words."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from ctid.errors import CtidError, SettingsError

T = TypeVar("T")

config_option = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="CTID_CONFIG",
    default=Path("/etc/ctid/ctid.toml"),
    show_default=True,
    help="Settings file; also from CTID_CONFIG.",
)


def fail(problems: list[str], code: int) -> NoReturn:
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(code)


def told(command: Callable[..., T]) -> Callable[..., T]:
    """Say what went wrong in words, not as a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> T:
        try:
            return command(*args, **kwargs)
        except SettingsError as error:
            fail(error.problems, 2)
        except CtidError as error:
            fail([f"ctid: {error}"], 1)
        except BrokenPipeError:
            # The reader (head, less) has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)

    return run


def run_async(work: Coroutine[Any, Any, T]) -> T:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)
