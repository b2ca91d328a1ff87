"""Who may come in: how the name `plugin:component` becomes a component, and what a plugin may not change.

In the order of use: `discovery`, `policy` and `lock`, `host` with `hookspecs`, `side_effects`, `faults`.
"""
