"""Finding providers by name: entry points of group `bulkrate.providers`, then files of facts.

A package brings its own by an entry point; a file `NAME.toml` in the user's folder, or of those that come
with Bulkrate, makes the provider NAME. Folders of jobs are not looked into: a file of facts says where a key
is sent, and that is not for a project from somewhere to say.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path

from bulkrate.errors import ConfigError
from bulkrate.providers.provider import Provider

GROUP = "bulkrate.providers"
FOLDERS_VARIABLE = "BULKRATE_PROVIDERS"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def provider_names(env: Mapping[str, str] | None = None) -> list[str]:
    """Names of the installed providers, and of those that a file of facts makes."""
    return sorted(_installed(tuple(sys.path)).keys() | _facts_files(env).keys())


def get_provider(name: str, env: Mapping[str, str] | None = None) -> Provider:
    """The provider called `name`; `env` stands in for the environment.

    Raises `ConfigError` when there is none, when its file of facts is wrong, or when two claim the name.
    """
    own, path = _entry_point(name), _facts_files(env).get(name)
    if own is not None and path is not None:
        raise ConfigError(f"{path}: provider {name} is installed already", hint="give the file another name")
    if own is not None:
        return own
    if path is not None:
        from bulkrate.providers.compatible.facts import read_facts_file
        from bulkrate.providers.compatible.provider import Compatible

        return Compatible(name, read_facts_file(path))
    known = provider_names(env)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    raise ConfigError(f"no provider called {name}", code="unknown_provider", hint=hint)


def facts_folders(env: Mapping[str, str] | None = None) -> list[Path]:
    """Where the user's files of facts are: the folders of BULKRATE_PROVIDERS, else the one of the user's
    configuration. Raises `ConfigError` for a folder that is named and not there."""
    known = os.environ if env is None else env
    if named := known.get(FOLDERS_VARIABLE):
        folders = [Path(part).expanduser() for part in named.split(os.pathsep) if part]
        for folder in folders:
            if not folder.is_dir():
                raise ConfigError(f"{FOLDERS_VARIABLE} names {folder}, which is not a folder")
        return folders
    configuration = known.get("XDG_CONFIG_HOME") or (f"{known['HOME']}/.config" if known.get("HOME") else "")
    return [Path(configuration) / "bulkrate" / "providers"] if configuration else []


def _entry_point(name: str) -> Provider | None:
    point = _installed(tuple(sys.path)).get(name)
    if point is None:
        return None
    provider: Provider = point.load()
    return provider


@cache
def _installed(path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """The providers of installed packages, by name; to look for them takes 15 ms."""
    del path  # where they are looked for
    return {point.name: point for point in reversed(tuple(entry_points(group=GROUP)))}


def _facts_files(env: Mapping[str, str] | None) -> dict[str, Path]:
    """Files by the provider's name; the user's own come before those that come along."""
    shipped = Path(str(files("bulkrate.providers.compatible")))
    found: dict[str, Path] = {}
    for folder in [*facts_folders(env), shipped]:
        for path in _toml_files(folder):
            found.setdefault(path.stem, path)
    return found


def _toml_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.glob("*.toml")):
        if not _NAME.fullmatch(path.stem):
            raise ConfigError(
                f"{path}: a provider's name is lower-case letters, digits, hyphens and underscores",
                hint="rename the file",
            )
        yield path
