"""The components that come with ev3x: a folder for each role. `plugin.py` offers them to the host."""
