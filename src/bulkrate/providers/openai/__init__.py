"""OpenAI: Files and Batches."""
