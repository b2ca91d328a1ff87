"""The conformance kit: every demand on a component, tried out in the tests of plugins.

    from ev3x.testing import each_check

    @each_check([MyProposer(count=3)])
    def test_contract(check):
        check()

`check_proposer(MyProposer(count=3))` runs all checks in one call, and needs no pytest. docs/testing.md lists the
checks. Fixtures for pytest are in `ev3x.testing.fixtures`. A process that imports this belongs to tests: what is known
to compile wrong sums is turned off in it, see `ev3x.wrong_sums`.
"""

import warnings
from typing import Any

from .. import wrong_sums
from .components import CHECKS as CHECKS
from .components import MINIMUM as MINIMUM
from .components import ask_ahead as ask_ahead
from .components import check_adapter as check_adapter
from .components import check_assessor as check_assessor
from .components import check_budget as check_budget
from .components import check_component as check_component
from .components import check_observer as check_observer
from .components import check_proposer as check_proposer
from .components import check_task as check_task
from .components import trial as trial
from .items import each_check as each_check
from .items import sample as sample
from .report import ConformanceError as ConformanceError
from .report import Finding as Finding
from .report import Report as Report
from .worlds import TinyTask as TinyTask
from .worlds import splits as splits

wrong_sums.spare()


def __getattr__(name: str) -> Any:
    if name == "Record":
        warnings.warn("ev3x.testing.Record is called ev3x.testing.Finding now", DeprecationWarning, stacklevel=2)
        return Finding
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
