"""OpenAI-shaped servers by a file of facts each; no code."""
