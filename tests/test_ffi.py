"""What a handler says of itself before XLA sees it."""

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from handlers import handler

from ev3x import ffi
from ev3x.ops import native

built = pytest.mark.skipif(importlib.util.find_spec(native.MODULE) is None, reason="installed without native code")
SOURCE = """
#include "xla/ffi/api/ffi.h"
namespace ffi = xla::ffi;
struct State { static ffi::TypeId id; };
ffi::TypeId State::id = {};
static ffi::ErrorOr<std::unique_ptr<State>> Begin() { return std::make_unique<State>(); }
static ffi::Error Run() { return ffi::Error::Success(); }
XLA_FFI_DEFINE_HANDLER_SYMBOL(begin, Begin, ffi::Ffi::BindInstantiate());
XLA_FFI_DEFINE_HANDLER_SYMBOL(run, Run, ffi::Ffi::Bind());
"""


@built
def test_every_bundled_handler_tells_the_version_of_its_headers():
    library = native.load_library()
    assert {ffi.probe(capsule) for capsule in library.targets.values()} == {library.ffi_version}


def test_a_handler_tells_any_version():
    assert ffi.probe(handler(0, 99)) == (0, 99)


def test_of_several_stages_the_newest_counts():
    stages = {"instantiate": handler(0, 3), "execute": handler(0, 1)}
    assert ffi.probe(stages) == (0, 3)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_handler_built_with_the_headers_at_hand_tells_their_version(tmp_path):
    """With state of its own, too: what newer headers tell besides needs room."""
    (tmp_path / "h.cc").write_text(SOURCE)
    include = ["-isystem", jax.ffi.include_dir()]
    subprocess.run(["g++", "-std=c++17", "-shared", "-fPIC", *include, "h.cc", "-o", "h.so"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "h.so"))
    assert ffi.probe(jax.ffi.pycapsule(library.run)) == native.runtime_ffi_version()
    try:
        assert ffi.probe(jax.ffi.pycapsule(library.begin)) == native.runtime_ffi_version()
    except RuntimeError as error:  # from 0.3 on, it wants XLA to know its type first
        assert "must be registered before the handler registration" in str(error)


@pytest.mark.parametrize(
    ("made", "kind", "text"),
    [
        (lambda: print, TypeError, "a handler must be a PyCapsule, or a dict of them by stage, got <built-in"),
        (lambda: {}, ValueError, "a handler needs the stage 'execute', got none"),
        (lambda: {"prepare": handler(0, 1)}, ValueError, "a handler needs the stage 'execute', got 'prepare'"),
        (
            lambda: {"exekute": handler(0, 1)},
            ValueError,
            "the stages of a handler are instantiate, prepare, initialize, execute, got 'exekute'",
        ),
        (lambda: handler(-1, -1), RuntimeError, "does not tell its FFI version: it is no handler of XLA's typed FFI"),
        (
            lambda: handler(0, 1, error=b"Unexpected XLA_FFI_CallFrame size"),
            RuntimeError,
            "the handler refuses to tell its FFI version: Unexpected XLA_FFI_CallFrame size",
        ),
    ],
)
def test_what_is_no_usable_handler_is_refused_in_words(made, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        ffi.probe(made())


def test_older_headers_are_accepted():
    ffi.check_version((0, 1), (0, 3), "rebuild it")


@pytest.mark.parametrize("newer", [(0, 4), (1, 0)])
def test_newer_headers_are_refused_with_a_way_out(newer):
    text = rf"built with XLA FFI {newer[0]}\.{newer[1]}, but this jaxlib has 0\.3: upgrade jaxlib, or rebuild it"
    with pytest.raises(RuntimeError, match=text):
        ffi.check_version(newer, (0, 3), "rebuild it")


def test_targets_are_described_without_jax():
    code = "import sys; from ev3x import FfiTarget; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_layout_is_that_of_the_header_at_hand(tmp_path):
    """The offsets that the probe relies on, from the declarations themselves."""
    header = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()

    def members(struct):
        body = re.search(rf"struct {struct} {{(.*?)\n}}", header, re.DOTALL).group(1)
        return re.findall(r"(\w+);", re.sub(r"//.*", "", body))

    assert members("XLA_FFI_CallFrame")[:3] == ["struct_size", "extension_start", "api"]
    assert members("XLA_FFI_Metadata")[:3] == ["struct_size", "api_version", "traits"]
    assert members("XLA_FFI_Metadata_Extension") == ["extension_base", "metadata"]
    assert members("XLA_FFI_Api_Version") == ["struct_size", "extension_start", "major_version", "minor_version"]
