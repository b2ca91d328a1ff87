"""A whole run and what it leaves: from a `Setup` to a directory that can be resumed, explained and replayed."""
