"""Mistral: files and batch jobs."""
