"""The conformance kit: every demand on a component, tried out in the tests of plugins; needs no pytest.

    from ev3x.testing import check_proposer

    def test_it_keeps_the_contract():
        check_proposer(MyProposer(count=3))

docs/testing.md lists the checks. Fixtures for pytest are in `ev3x.testing.fixtures`. A process that imports this
belongs to tests: what is known to compile wrong sums is turned off in it, see `ev3x.wrong_sums`.
"""

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
from .report import ConformanceError as ConformanceError
from .report import Record as Record
from .report import Report as Report
from .worlds import TinyTask as TinyTask
from .worlds import splits as splits

wrong_sums.spare()
