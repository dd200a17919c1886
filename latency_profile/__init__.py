"""Latency profiles of LLM model servers."""

__version__ = "0.1.0"
