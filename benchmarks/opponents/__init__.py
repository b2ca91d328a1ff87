"""The native operations' opponents: pure-JAX forms of the same work, as anyone would write them and tuned.

Every form is a plain function of the operation's arrays. They give the operation no handicap: no form cares for
NaN, subnormal numbers or masks, which the operations do, and none takes decisions where only moments are compared.
"""
