"""Engines behind the batch server, one module each."""
