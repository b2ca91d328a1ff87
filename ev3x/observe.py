"""Observe: what watches a run from the host, between chunks of rounds."""
