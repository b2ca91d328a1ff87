"""The distribution as a plugin: it is found without being imported, offers what it says, and uses public names only."""

from ev3x_populations.proposer import Dehb

from ev3x.testing.distribution import DistributionTests

CONFIG = """
rounds = 2
[[propose]]
use = "populations:dehb"
loss = "labels"
optimizer = { name = "sgd", learning_rate = 0.1, momentum = 0.9 }
lanes = 3
eta = 3
[propose.space]
learning_rate = { low = 1e-3, high = 1.0, log = true }
momentum = { ordinal = [0.0, 0.9, 0.99] }
"""


class TestDistribution(DistributionTests):
    config = CONFIG
    mistakes = (
        ('use = "populations:dehb"', 'use = "populations:debh"', r"unknown proposer 'populations:debh'; did you mean"),
        ("lanes = 3", "lane = 3", r"lane.*did you mean 'lanes'"),
        ("eta = 3", "eta = 1.5", r"eta.*greater than or equal to 2, got 1.5"),
        ("eta = 3", "min_fidelity = 10", r"min_fidelity.*must be at most max_fidelity, got 10 > 9"),
        ("eta = 3", "min_fidelity = 4\neta = 3", r"min_fidelity.*leave no second fidelity"),
        ("eta = 3", 'strategy = "rand1_bim"', r"strategy.*did you mean 'rand1_bin'"),
        ("ordinal = [0.0, 0.9, 0.99]", 'categorical = ["a", "b"]', r"space.*'momentum' has choices that are strings"),
        ("log = true", "lag = true", r"space.*'learning_rate'.*did you mean 'log'"),
        ("high = 1.0", "high = 1e-4", r"space.*learning_rate"),
    )
    heavy = ("optax",)

    def offers(self):
        return {"proposer": {"dehb": Dehb}}
