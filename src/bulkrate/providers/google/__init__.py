"""The Gemini API (an AI Studio key): file jobs of `batchGenerateContent`."""
