"""Write `job-file.md` from the job model: `python docs/reference/generate_job_file.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bulkrate.jobs.load import job_schema

PAGE = Path(__file__).with_name("job-file.md")

HEAD = """\
# The job file

<!-- Made from the model by generate_job_file.py; edit the descriptions there, not this page. -->

A job says which rows are asked what, of which model, and where the answers go. It is a YAML file, by custom
called `something.bulk.yaml`, or the same fields in JSON, or a `bulkrate.Job` in Python.

```yaml
name: tickets
source:
  path: tickets.csv
  key: id
request:
  model: openai/gpt-5-mini
  system: You sort support tickets.
  prompt: |
    Which team should answer this ticket?

    {{ body }}
  output:
    choice: [billing, shipping, account, other]
lane:
  deadline: 24h
sink:
  path: labels.csv
```

`bulkrate schema` prints the JSON Schema of this page, which editors use to complete and check job files. With
the YAML language server, put this on the first line:
`# yaml-language-server: $schema=bulkrate.schema.json`.

Relative paths start from the folder of the job file; for a `Job` in Python, from the current folder.

A field that does not exist, or a value that cannot be, is an error with file, line and the nearest name. All
problems of a file are shown at once:

```text
tickets.bulk.yaml:7: request.promt: there is no such field
hint: did you mean `prompt`?
```

A source that already is an OpenAI batch file needs no job file: `bulkrate run requests.jsonl`. In a job file
it is a job without `request`. The key of its rows is their `custom_id`.

"""

TEMPLATES = """\
## Templates

`system`, `prompt`, the `content` of messages, the `text`, `image` and `document` of parts, and all texts of
`raw` are
[Jinja](https://jinja.palletsprojects.com/templates/) templates, rendered once per row. A column stands by its
name; one whose name is not a word is reached through `row`.

| to write | template |
|---|---|
| a column | `{{ body }}` |
| a column with spaces in its name | `{{ row["Ticket subject"] }}` |
| its first 2,000 characters | `{{ body[:2000] }}` |
| a text where there is none | `{{ note \\| default("no note") }}` |
| something only if there is one | `{% if note %}Note: {{ note }}{% endif %}` |
| a list or mapping as JSON | `{{ items \\| tojson }}` |
| the whole row as JSON | `{{ row \\| tojson }}` |
| braces | `{% raw %}{{ as they are }}{% endraw %}` |

A template without columns is the same for every row. What a row holds is never itself read as a template.

Rows that cannot be rendered are rejected before anything is sent, with one of these codes:

| code | what happened |
|---|---|
| `undefined_column` | the template reads a column, or a field in it, that the row does not have |
| `null_value` | a null would have become text: the word `None` in a prompt is a silent, paid-for mistake |
| `empty_prompt` | nothing but white space is left of a message of the user |
| `template_error` | the template cannot do what it says with this row, such as a sum with a text |
| `bad_url` | an `image` or `document` is not an `https:` or `data:` URL, nor a path |
| `no_file` | the file of an `image` or `document` is not there, or cannot be read |
| `bad_file` | it is empty, lies outside of `request.files`, or its suffix is none of an image or document |
| `forbidden_character` | the text holds private-use characters that Bulkrate keeps for itself |
| `bad_request_line` | a line of an OpenAI batch file is not a request |

## Words that YAML does not read as text

Bare `no`, `yes`, `on`, `off`, `null`, numbers and dates are not text to YAML. Labels that look like them need
quotes, and Bulkrate asks for them:

```text
tickets.bulk.yaml:12: request.output.choice[1]: the bare word no is read as a boolean; write "no" in quotes
```
"""

SECTIONS = {
    "Fields": "Job",
    "`source`": "SourceSpec",
    "`request`": "RequestSpec",
    "`request.output`": "OutputSpec",
    "`request.messages`": "MessageSpec",
    "Parts of a message": "PartSpec",
    "`request.tools`": "ToolSpec",
    "`lane`": "LaneSpec",
    "`sink`": "SinkSpec",
    "`canary`": "CanarySpec",
}


def page() -> str:
    """The page's text."""
    schema = job_schema()
    return HEAD + "\n".join(_tables(schema)) + "\n" + TEMPLATES


def _tables(schema: dict[str, Any]) -> Iterator[str]:
    for title, name in SECTIONS.items():
        section = schema if name == "Job" else schema["$defs"][name]
        yield f"## {title}\n"
        yield f"{section['description']}\n"
        yield "| field | value | default | meaning |"
        yield "|---|---|---|---|"
        required = section.get("required", [])
        for field, about in section["properties"].items():
            default = "**required**" if field in required else _default(about.get("default"))
            meaning = about["description"].replace("|", "\\|")
            yield f"| `{field}` | {_value(about)} | {default} | {meaning} |"
        yield ""


def _default(value: Any) -> str:
    return "" if value in (None, {}, []) or isinstance(value, dict) else f"`{json.dumps(value)}`"


_TYPES = {"string": "text", "integer": "whole number", "object": "mapping", "boolean": "true, false"}


def _value(about: dict[str, Any]) -> str:
    match about:
        case {"anyOf": branches} | {"oneOf": branches}:
            found = [_value(branch) for branch in branches if branch != {"type": "null"}]
            return " or ".join(dict.fromkeys(found))
        case {"$ref": _}:
            return "section"
        case {"const": word}:
            return f"`{word}`"
        case {"enum": words}:
            return ", ".join(f"`{word}`" for word in words)
        case {"type": "array", "items": items}:
            return "list of " + {"section": "sections", "text": "texts"}.get(_value(items), _value(items))
        case {"type": kind}:
            names = {
                "string": "text",
                "integer": "whole number",
                "object": "mapping",
                "boolean": "true, false",
            }
            return names.get(kind, kind) + _bounds(about)
        case _:
            return "any"


def _bounds(about: dict[str, Any]) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}
    said = [f"{word} {about[name]:g}" for name, word in words.items() if name in about]
    return f", {', '.join(said)}" if said else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
