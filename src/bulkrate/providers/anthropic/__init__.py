"""Anthropic: Message Batches."""
