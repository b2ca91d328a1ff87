"""The six roles, the records that travel, and the round that calls them. A plugin author reads this folder and no other.

From bottom to top: `types`, `data`, `streams`, `task`, `layout`, `propose`, `assess`, `budget`, `adapt`, `observe`,
`objectives`, `contract`, `plan`, `loop`. Nothing here knows an implementation, nor the plugin host.
"""
