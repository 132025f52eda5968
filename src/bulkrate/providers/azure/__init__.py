"""Azure OpenAI: OpenAI's files and batches, under deployment names."""
