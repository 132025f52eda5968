"""`bulkrate testing serve`: the misbehaving provider, to test a pipeline against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bulkrate.errors import BulkrateError, ConfigError

app = typer.Typer(
    name="testing",
    help="Tools for testing pipelines, yours and ours.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
FaultOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fault", metavar="NAME=N[,...]", help="A fault; may be repeated. --list-faults shows them all."
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every choice of rows, and of every order.")]
Polls = Annotated[int, typer.Option("--polls", min=1, help="The status call at which a batch completes.")]
State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="FILE",
        help="JSON file: where it listens; when it stops, what it counted, too.",
        dir_okay=False,
    ),
]
Webhook = Annotated[
    str | None, typer.Option("--webhook", metavar="URL", help="Tell this URL when a batch has ended.")
]
WebhookSecret = Annotated[
    str | None,
    typer.Option("--webhook-secret", metavar="SECRET", help="Sign that with this, whsec_…; for tests only."),
]
Dialect = Annotated[
    str,
    typer.Option("--dialect", metavar="NAME", help="Whose API it speaks: a provider of ours, by its name."),
]
ListFaults = Annotated[bool, typer.Option("--list-faults", help="Print the faults and stop.")]


@app.command()
def serve(
    *,
    port: Port = 0,
    fault: FaultOption = None,
    seed: Seed = 0,
    polls: Polls = 2,
    state: State = None,
    dialect: Dialect = "openai",
    webhook: Webhook = None,
    webhook_secret: WebhookSecret = None,
    list_faults: ListFaults = False,
) -> int:
    """Serve a provider on loopback that speaks a vendor's Batch API and fails as it is told to.

    Prints one line of JSON with base_url, api_key and control_url, and runs until it is stopped.
    """
    from bulkrate.testing.__main__ import fault_lines
    from bulkrate.testing.__main__ import serve as serve_until_stopped

    if list_faults:
        typer.echo("\n".join(fault_lines()))
        return 0
    try:
        secret: dict[str, Any] = {"webhook_secret": webhook_secret} if webhook_secret else {}
        return serve_until_stopped(
            fault or [],
            port=port,
            seed=seed,
            polls=polls,
            state=state,
            dialect=dialect,
            webhook=webhook,
            **secret,
        )
    except ImportError as error:
        raise ConfigError(
            f"the package {error.name} is not installed", hint="pip install 'bulkrate[testing]'"
        ) from None
    except ValueError as error:  # a FaultError is one
        raise ConfigError(
            str(error), hint="`bulkrate testing serve --list-faults` shows the faults"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise BulkrateError(f"port {port}: {reason}", code="port", hint="--port 0 takes a free one") from None
