"""Who may come in: how the name `plugin:component` becomes a component, and what a plugin may not change.

The modules in the order in which a run uses them: `discovery`, `policy` and `lock`, `host` with `hookspecs`,
`side_effects`, `faults`.
"""
