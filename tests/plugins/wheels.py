"""Fake distributions as real wheels, and a real environment that pip installs them into, all with one call."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

TESTS = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Fake:
    """A distribution `ev3x-{plugin}` with one module, whose entry point is `value`.

    `api` None states no plugin API. `spoil(folder, info)` does to its installed files what happens to files: it gets
    the site-packages and the distribution's own dist-info.
    """

    plugin: str
    source: str
    distribution: str = ""
    version: str = "1.5"
    api: str | None = "v1"
    value: str = "{module}"
    spoil: Callable[[Path, Path], object] | None = None

    @property
    def name(self) -> str:
        return self.distribution or f"ev3x-{self.plugin}"

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def info(self) -> str:
        return f"{self.module}-{self.version}.dist-info"

    def files(self) -> dict[str, str]:
        """What the wheel holds, by path, but for its RECORD."""
        points = f"[ev3x]\n{self.plugin} = {self.value.format(module=self.module)}\n"
        if self.api is not None:
            points += f"[ev3x.api]\n{self.plugin} = {self.api}\n"
        return {
            f"{self.module}.py": self.source,
            f"{self.info}/METADATA": f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n",
            f"{self.info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{self.info}/entry_points.txt": points,
        }

    def wheel(self, folder: Path) -> Path:
        """The wheel, written into this folder."""
        path, rows = folder / f"{self.module}-{self.version}-py3-none-any.whl", []
        with zipfile.ZipFile(path, "w") as file:
            for name, text in self.files().items():
                digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
                rows.append(f"{name},sha256={digest},{len(text.encode())}\n")
                file.writestr(name, text)
            file.writestr(f"{self.info}/RECORD", "".join(rows) + f"{self.info}/RECORD,,\n")
        return path


@dataclasses.dataclass(frozen=True)
class Environment:
    """A virtual environment in a folder, which sees all that this Python sees."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Environment:
        made = cls(folder)
        venv.EnvBuilder(symlinks=True).create(folder)
        # addsitedir, not a plain line: it reads the .pth files of editable installations there.
        parents = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
        lines = [f"import site; site.addsitedir({parent!r})\n" for parent in parents]
        (made.site / "parent.pth").write_text("".join(lines), encoding="utf-8")
        return made

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        return next((self.folder / "lib").iterdir()) / "site-packages"

    def install(self, fakes: Iterable[Fake], target: Path | None = None) -> Path:
        """The folder that pip installed the wheels of these into: the environment's own, or the target."""
        wheels = self.folder / "wheels"
        wheels.mkdir(exist_ok=True)
        fakes = list(fakes)
        command: list[str | Path] = [self.python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        command += ["--no-compile", "--disable-pip-version-check"]
        if target:
            command += ["--target", target]
        command += [fake.wheel(wheels) for fake in fakes]
        done = subprocess.run(command, capture_output=True, text=True, env=self.variables())
        if done.returncode:
            raise RuntimeError(f"pip could not install the fakes: {done.stderr}")
        folder = target or self.site
        for fake in fakes:
            if fake.spoil:
                fake.spoil(folder, folder / fake.info)
        return folder

    def variables(self, **more: str | None) -> dict[str, str]:
        """The variables for its processes; None takes one away."""
        ours = ("EV3X_", "JAX_", "XLA_", "PYTHON", "PIP_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        own: Mapping[str, str | None] = {
            "PYTHONPATH": str(TESTS),
            "EV3X_CACHE": str(self.folder / "cache"),
            "EV3X_NATIVE": "off",  # the bundled targets are tested elsewhere, and slow to bring up
            "JAX_PLATFORMS": "cpu",
            **more,
        }
        return {name: value for name, value in {**kept, **own}.items() if value is not None}

    def run(self, *args: str, **more: str | None) -> subprocess.CompletedProcess[str]:
        """A Python process of this environment, run to its end."""
        return subprocess.run(
            [self.python, *args], capture_output=True, text=True, timeout=300, env=self.variables(**more)
        )

    @classmethod
    def here(cls) -> Environment:
        """The one that this process is of."""
        return cls(Path(sys.prefix))
