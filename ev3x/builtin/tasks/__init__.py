"""Built-in tasks: the model to train, its losses, metrics and data."""
