"""Built-in tasks: what is trained."""
