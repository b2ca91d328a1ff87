"""The six roles, the records that travel, and the round that calls them: all that a plugin author has to read.

From bottom to top: `types`, `data`, `streams`, `task`, `layout`, `propose`, `assess`, `budget`, `adapt`, `observe`,
`objectives`, `contract`, `plan`, `loop`. Nothing here imports an implementation or the plugin host. The table "Words"
in docs/design.md defines site, memo, aims, call, form, champion and the like.
"""
