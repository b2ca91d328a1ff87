"""The built-in components: a plugin like any other, under the name `ev3`."""

from __future__ import annotations

from collections.abc import Iterable

from ..host.hookspecs import Offer, hookimpl


@hookimpl
def ev3x_proposers() -> Iterable[Offer]:
    """EV3's trajectories, and sampled hyperparameters."""
    from .proposers.hyperparameters import Hyperparameters
    from .proposers.trajectories import Trajectories

    return [Offer("trajectories", Trajectories), Offer("hyperparameters", Hyperparameters)]


@hookimpl
def ev3x_assessors() -> Iterable[Offer]:
    """Bounds of means, one metric after the other, or Pareto ranks to select; tests to confirm."""
    from .assessors.bernstein import Bernstein
    from .assessors.betting import Betting
    from .assessors.bootstrap import Bootstrap
    from .assessors.lexicographic import Lexicographic
    from .assessors.mean_bounds import MeanBounds
    from .assessors.paired import Paired
    from .assessors.pareto import Pareto
    from .assessors.published import Published

    select = [Offer("mean_bounds", MeanBounds), Offer("lexicographic", Lexicographic), Offer("pareto", Pareto)]
    anytime = [Offer("betting", Betting), Offer("bernstein", Bernstein)]
    fixed = [Offer("paired", Paired), Offer("bootstrap", Bootstrap), Offer("published", Published)]
    return [*select, *anytime, *fixed]


@hookimpl
def ev3x_adapters() -> Iterable[Offer]:
    """Promotion on evidence, in shadow mode, or without a gate; growth, on trial or in passes; weights by progress."""
    from .adapters.accept import Accept
    from .adapters.grow import Grow
    from .adapters.promote import Promote
    from .adapters.reweight import Reweight
    from .adapters.shadow import Shadow
    from .adapters.synergy import Synergy

    return [
        Offer("promote", Promote),
        Offer("shadow", Shadow),
        Offer("accept", Accept),
        Offer("grow", Grow),
        Offer("synergy", Synergy),
        Offer("reweight", Reweight),
    ]


@hookimpl
def ev3x_budgets() -> Iterable[Offer]:
    """An error level over the run, or for each round; or a share of false promotions, earned back by discoveries."""
    from .budgets.elond import Elond
    from .budgets.lord import Lord
    from .budgets.over_run import OverRun
    from .budgets.per_round import PerRound
    from .budgets.saffron import Saffron

    return [
        Offer("over_run", OverRun),
        Offer("per_round", PerRound),
        Offer("lord", Lord),
        Offer("saffron", Saffron),
        Offer("elond", Elond),
    ]


@hookimpl
def ev3x_tasks() -> Iterable[Offer]:
    """Distillation on MNIST-1D, on scikit-learn's digits, and on CIFAR-100; families of tasks to adapt to."""
    from .tasks.distill_cifar import DistillCifar
    from .tasks.distill_digits import DistillDigits
    from .tasks.distill_mnist1d import DistillMnist1D
    from .tasks.federated_digits import FederatedDigits
    from .tasks.few_shot_digits import FewShotDigits
    from .tasks.quadratics import Quadratics
    from .tasks.sinusoids import Sinusoids
    from .tasks.warped_mnist1d import WarpedMnist1D

    return [
        Offer("distill-mnist1d", DistillMnist1D),
        Offer("distill-digits", DistillDigits),
        Offer("distill-cifar", DistillCifar),
        Offer("sinusoids", Sinusoids),
        Offer("quadratics", Quadratics),
        Offer("warped-mnist1d", WarpedMnist1D),
        Offer("few-shot-digits", FewShotDigits),
        Offer("federated-digits", FederatedDigits),
    ]


@hookimpl
def ev3x_observers() -> Iterable[Offer]:
    """Live progress, and pictures of the run and of how its model grew."""
    from .observers.curve import Curve
    from .observers.lineage import Lineage
    from .observers.progress import ShowProgress

    return [Offer("progress", ShowProgress), Offer("curve", Curve), Offer("lineage", Lineage)]
