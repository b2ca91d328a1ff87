"""Distributions with plugins, written straight into a folder on sys.path."""

import sys
import textwrap

GOOD = """
import dataclasses
import ev3x

@dataclasses.dataclass(frozen=True)
class Mine(ev3x.Assessor):
    '''An assessor.'''
    def begin(self, k, metrics): ...
    def observe(self, evidence, block, question, metrics): ...
    def conclude(self, evidence, question, metrics): ...

@ev3x.hookimpl
def ev3x_assessors():
    return [ev3x.Offer("mine", Mine)]
"""


class Site:
    """A folder on sys.path into which distributions can be put."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self._monkeypatch = monkeypatch
        monkeypatch.syspath_prepend(folder)

    def __call__(self, plugin, source, distribution=None, module=None, api="v1", version="1.5"):
        """Puts a distribution with one plugin there, and returns the folder of its metadata."""
        distribution, module = distribution or f"ev3x-{plugin}", module or f"module_of_{plugin}"
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        stated = f"[ev3x.api]\n{plugin} = {api}\n" if api else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[ev3x]\n{plugin} = {module}\n{stated}")
        (info / "RECORD").write_text(f"{module.partition(':')[0]}.py,,\n{info.name}/METADATA,,\n")
        if source is not None:
            name = module.partition(":")[0]
            (self.folder / f"{name}.py").write_text(textwrap.dedent(source))
            self._monkeypatch.delitem(sys.modules, name, raising=False)
        return info
