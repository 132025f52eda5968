"""Running the real `bulkrate` command against a provider in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

import bulkrate
from bulkrate.testing import MisbehavingProvider, ProviderProcess

BULKRATE = Path(sys.executable).with_name("bulkrate")
KEY = "test-key-canary"
ROWS = 1_000
# Of OpenAI's vocabularies this model's loads fastest, and each process of a test loads it.
MODEL = "openai/gpt-3.5-turbo"

# The protocol's waits, short enough for a test: a provider on loopback has no lag.
QUICK = {
    "BULKRATE_LIMITS__CREATE_TIMEOUT_S": "1",
    "BULKRATE_LIMITS__UPLOAD_TIMEOUT_S": "1",
    "BULKRATE_LIMITS__LISTING_LAG_S": "0.1",
}

JOB = """\
name: tickets
source:
  path: tickets.csv
  key: id
request:
  model: {model}
  prompt: "Which department? {{{{ text }}}}"
  max_output_tokens: 20
sink:
  path: answers.jsonl
{more}"""


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output, which must be one JSON document."""
        return json.loads(self.out)


@dataclass
class CommandLine:
    """A folder to work in, and the `bulkrate` command run in it."""

    folder: Path
    provider: MisbehavingProvider | ProviderProcess | None = None
    env: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """Nothing of ours but what the test means to set."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in ("PATH", "HOME", "LANG", "PYTHONPATH")
        }
        if self.provider is not None:
            kept |= {"OPENAI_BASE_URL": self.provider.base_url, "OPENAI_API_KEY": KEY}
        return kept | QUICK | self.env

    def __call__(self, *arguments: str | Path, stdin: str | None = None) -> Result:
        """Run to the end."""
        process = self.start(*arguments, stdin=stdin is not None)
        return self.end(process, stdin)

    def start(self, *arguments: str | Path, stdin: bool = False) -> subprocess.Popen[str]:
        """Start, and leave it running."""
        return subprocess.Popen(
            [BULKRATE, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str], stdin: str | None = None) -> Result:
        """Wait for its end."""
        out, err = process.communicate(stdin)
        self.said += [out or "", err]
        assert "Traceback" not in err, err
        return Result(process.returncode, out or "", err)

    def interrupt(self, process: subprocess.Popen[str], number: int = signal.SIGINT) -> Result:
        """Press Ctrl-C, and wait for the end."""
        process.send_signal(number)
        return self.end(process)

    def ran(self, job: Path, *, code: int = 0, fresh: bool = False) -> None:
        """Run the job by `bulkrate.run`, which starts no process: for tests of what comes after a run."""
        home = self.folder / ".bulkrate"
        run = bulkrate.run(job, yes=True, fresh=fresh, poll_s=0.02, home=home, env=self.environment())
        assert run.exit_code == code, run
        run.close()

    # -- what is there ---------------------------------------------------------------------------------

    def tickets(self, rows: int = ROWS, *, more: str = "", model: str = MODEL) -> Path:
        """A table of tickets and a job for it."""
        lines = ["id,text", *(f"t{number},ticket number {number}" for number in range(rows))]
        (self.folder / "tickets.csv").write_text("\n".join(lines) + "\n")
        job = self.folder / "tickets.bulk.yaml"
        job.write_text(JOB.format(model=model, more=more))
        return job

    def answers(self, name: str = "answers.jsonl") -> list[dict[str, Any]]:
        """The sink's rows."""
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def leaks(self, secret: str) -> list[str]:
        """Where the secret can be read: outputs, and files in the folder, compressed ones opened."""
        needle = secret.encode()
        found = [f"output {number}" for number, text in enumerate(self.said) if secret in text]
        for path in self.folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                if path.suffix == ".zst":
                    content += zstandard.ZstdDecompressor().decompressobj().decompress(content)
                if needle in content:
                    found.append(str(path))
        return found
