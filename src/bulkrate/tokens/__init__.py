"""Counting prompt tokens before anything is paid.

``counter_for(provider, model)`` gives the counter for a model: exact where the model's vocabulary is public
(OpenAI's, and the model of the local engine), otherwise a stated estimate by bytes. Every counter says which
of the two it is (``method``) and what counts (``source``), and a quote prints both.

Images and documents are not counted here.
"""

from __future__ import annotations

from bulkrate.tokens.counter import TokenCounter
from bulkrate.tokens.families import counter_for

__all__ = ["TokenCounter", "counter_for"]
