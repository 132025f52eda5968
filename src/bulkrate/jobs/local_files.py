"""Images and documents that a job names by path: read, and made into `data:` URLs.

Rows are data, and may come from anywhere: a path in a row never leads out of the job's folder of files.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

from bulkrate.core.problem import Problem

URLS: Final = ("https:", "data:")
LARGEST_BYTES: Final = 50_000_000
"""Where reading stops, for memory's sake. What a provider takes in one request is another, lower limit."""

_IMAGES: Final = {
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
_DOCUMENTS: Final = {
    ".csv": "text/csv",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".html": "text/html",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
MEDIA_TYPES: Final = {"image": _IMAGES, "document": {**_DOCUMENTS, **_IMAGES}}
"""What a file is, by its suffix: the system's own table differs from machine to machine."""


def as_url(text: str, kind: str, folder: Path) -> str | Problem:
    """`text` itself where it is a URL; else the `data:` URL of the file of that path, from `folder` on.

    `kind` is `image` or `document`. Messages do not repeat the path, which is the row's.
    """
    if text.startswith(URLS):
        return text
    if not text.strip() or "://" in text or "\0" in text or text.startswith("http:"):
        return Problem("bad_url", "is not an https: or data: URL, nor the path of a file")
    known = MEDIA_TYPES[kind]
    media_type = known.get(Path(text).suffix.lower())
    if media_type is None:
        return Problem("bad_file", f"has no suffix of an {kind} ({', '.join(sorted(known))})")
    try:
        root = folder.resolve()
        path = (root / text).resolve()
        if not path.is_relative_to(root):
            return Problem("bad_file", "lies outside of the job's folder of files (`request.files`)")
        if not path.is_file():
            return Problem("no_file", "names no file that is there")
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; half a character
        return Problem("no_file", f"cannot be read: {getattr(error, 'strerror', None) or 'no path'}")
    if not content:
        return Problem("bad_file", "is empty")
    if len(content) > LARGEST_BYTES:
        return Problem("too_large", f"is larger than {LARGEST_BYTES:,} bytes")
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
