"""The options of a config that belong to no component: those at its top, and [plugins]."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from packaging.requirements import InvalidRequirement, Requirement
from typing_extensions import Doc

from ..component import Component, Count, Fault, Names, Real, Seconds, Seed
from ..core.objectives import Amounts
from ..host.discovery import is_name
from ..ops.native import Mode

STOPS = ("rounds", "seconds", "gradient_steps")


@dataclasses.dataclass(frozen=True)
class Run(Component):
    """When a run stops, where it begins, how often it is saved, what counts in it, and whether its code is native."""

    rounds: Annotated[Count | None, Doc("stop after so many rounds")] = None
    seconds: Annotated[
        Annotated[Seconds, Gt(0)] | None, Doc("stop after so many seconds of rounds, at the end of a chunk")
    ] = None
    gradient_steps: Annotated[
        Annotated[int, Ge(1), Lt(2**63)] | None, Doc("stop after so many gradient steps of all candidates")
    ] = None
    target: Annotated[Real | None, Doc("stop when a promoted model's confirmed score of the first metric is this")] = (
        None
    )
    seed: Annotated[Seed, Doc("everything random comes from it")] = 0
    save_every: Annotated[Seconds, Gt(0), Doc("seconds between checkpoints")] = 10.0
    native: Annotated[
        Mode, Doc("native code: never (off), or the run fails (require), or as EV3X_NATIVE says (auto)")
    ] = "auto"
    weights: Annotated[
        Amounts | None, Doc("what each metric counts in selection, those not named nothing; not set: the first alone")
    ] = None

    def check(self) -> list[Fault]:
        """A fault when nothing ends the run."""
        if any(getattr(self, name) is not None for name in STOPS):
            return []
        also = "; a target alone may never be reached" if self.target is not None else ""
        return [Fault((), f"nothing ends the run: set rounds, seconds or gradient_steps{also}")]


@dataclasses.dataclass(frozen=True)
class Plugins(Component):
    """Which distributions may bring plugins into the run, as pip calls them. This narrows what is allowed anyway."""

    enable: Annotated[Names | None, Doc("only these; not set: all that are allowed")] = None
    disable: Annotated[Names, Doc("all but these")] = ()
    require: Annotated[Names, Doc("these must be there and load, such as ev3x-evograd>=0.1")] = ()

    def check(self) -> list[Fault]:
        """A fault for each name that no distribution can have, and for requirements that say more than versions."""
        faults = [
            Fault((option, i), f"must name a distribution, as pip calls it, got {name!r}")
            for option in ("enable", "disable")
            for i, name in enumerate(getattr(self, option) or ())
            if not is_name(name)
        ]
        for i, text in enumerate(self.require):
            try:
                wanted = Requirement(text)
            except InvalidRequirement as error:
                said = f"got {text!r}: {str(error).partition(chr(10))[0]}"
            else:
                more = wanted.url or wanted.extras or wanted.marker
                said = f"with versions alone, got {text!r}" if more else ""
            if said:
                faults.append(Fault(("require", i), f"must be a distribution such as 'ev3x-evograd>=0.1', {said}"))
        return faults
