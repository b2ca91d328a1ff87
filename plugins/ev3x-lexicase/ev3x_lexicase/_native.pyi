def votes() -> object:
    """The CPU handler of ev3x_lexicase_votes: a capsule."""
