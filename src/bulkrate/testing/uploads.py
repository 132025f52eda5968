"""A file that comes as a form, as OpenAI's API and those like it take it."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from bulkrate.testing.blob import Blob


@dataclass(frozen=True, slots=True)
class Upload:
    """The form's file, if it has one, and the form's texts."""

    blob: Blob | None
    name: str
    form: FormData

    def text(self, name: str) -> str | None:
        """A field that is a text."""
        value = self.form.get(name)
        return value if isinstance(value, str) else None


async def read_upload(request: Request) -> Upload:
    """Read the form to its end."""
    async with request.form() as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            return Upload(None, "", form)
        blob = Blob()
        while chunk := await file.read(1 << 20):
            blob.append(chunk)
        return Upload(blob, file.filename or "", form)
