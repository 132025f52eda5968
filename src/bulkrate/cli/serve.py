"""`bulkrate serve`: our own batch server, in front of an engine on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal

Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
State = Annotated[
    Path | None,
    typer.Option(
        "--state", metavar="FOLDER", help="Where files and batches are kept. Default: in the state directory."
    ),
]
Engine = Annotated[
    str, typer.Option("--engine", help="What answers: openvino, static (embeddings), or echo (no model).")
]
ModelName = Annotated[str, typer.Option("--model", help="The model the engine loads.")]
IdleExit = Annotated[
    float | None,
    typer.Option(
        "--idle-exit",
        parser=options.seconds,
        metavar="SECONDS|10m|2h",
        help="End when nobody has asked for anything this long. Default: never.",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        help="The key clients must give. BULKRATE_SERVER_API_KEY keeps it out of the list of processes.",
    ),
]


def serve(
    context: typer.Context,
    *,
    host: Host = "127.0.0.1",
    port: Port = 8099,
    state: State = None,
    engine: Engine = "openvino",
    model: ModelName = "smollm2-135m-instruct",
    idle_exit: IdleExit = None,
    api_key: ApiKey = None,
) -> int:
    """Serve OpenAI's Files and Batches API in front of a model on this machine."""
    from bulkrate.ledger.home import Home
    from bulkrate.server.serve import API_KEY_VARIABLE
    from bulkrate.server.serve import main as serve_until_stopped

    terminal: Terminal = context.obj
    folder = state
    if folder is None:
        folder = Home.find(terminal.cwd, terminal.env).server_dir / "serve"
    try:
        return serve_until_stopped(
            host=host,
            port=port,
            state=folder.absolute(),
            engine=engine,
            model=model,
            idle_exit_s=idle_exit,
            api_key=api_key or terminal.env.get(API_KEY_VARIABLE),
        )
    except KeyboardInterrupt:
        terminal.note("stopped; unfinished batches go on when it is started again")
        return 0  # stopping a server is how it is meant to end
