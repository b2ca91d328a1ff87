"""A native target as data, and the FFI version that its handler reports. Nothing here imports jax."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable, Mapping

# XLA's own platform names: register_ffi_target accepts any other name without an error.
PLATFORMS = ("cpu", "CUDA", "ROCM")
STAGES = ("instantiate", "prepare", "initialize", "execute")

Version = tuple[int, int]
SelfTest = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class FfiTarget:
    """One XLA custom call.

    `handler` is a capsule with the handler, or a dict of capsules by stage, of which "execute" must be one.
    `self_test(name)` compares the custom call with its definition on a tiny input, and raises if they differ; see
    `ev3x.ops.agree` and `ev3x.ops.StoredTest`. `platform` is XLA's name of the platform that the handler runs on.
    """

    name: str
    handler: object
    self_test: SelfTest
    platform: str = "cpu"


def probe(handler: object) -> Version:
    """The FFI version (major, minor) of the headers that a handler was built with; of several stages, the newest.

    The handler is called with a frame that asks only for its metadata: it runs none of its own code, and XLA need not
    know it. Raises TypeError, ValueError or RuntimeError if the handler is not usable.
    """
    stages = handler if isinstance(handler, Mapping) else {"execute": handler}
    if unknown := [stage for stage in stages if stage not in STAGES]:
        raise ValueError(f"the stages of a handler are {', '.join(STAGES)}, got {unknown[0]!r}")
    if "execute" not in stages:
        raise ValueError(f"a handler needs the stage 'execute', got {', '.join(map(repr, stages)) or 'none'}")
    return max(_version(_pointer(capsule)) for capsule in stages.values())


def check_version(built: Version, running: Version, way: str) -> None:
    """Returns if a handler built with FFI version `built` runs under `running`; else RuntimeError, with the `way` out.

    XLA runs older handlers. A newer one, registered before the backend is up, stops the whole backend from starting.
    """
    if built[0] != running[0] or built[1] > running[1]:
        raise RuntimeError(
            f"built with XLA FFI {built[0]}.{built[1]}, but this jaxlib has {running[0]}.{running[1]}: "
            f"upgrade jaxlib, or {way}"
        )


# The structs below mirror xla/ffi/api/c_api.h, whose relevant part is the same from 0.1 (jaxlib 0.7) to 0.5 (jaxlib
# 0.12). A handler wants a call frame of exactly the size in its headers, and other structs of at least that size. Newer
# headers add fields at the end, so these structs have spare room there, filled with zeros.
_FRAME_SIZE = 168
_ROOM = ctypes.c_byte * 1024
_METADATA = 1  # XLA_FFI_Extension_Metadata
_CREATE_ERROR = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
_HANDLER = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)


class _ApiVersion(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension_start", ctypes.c_void_p),
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
    ]


class _Metadata(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("version", _ApiVersion), ("traits", ctypes.c_uint32), ("_", _ROOM)]


class _Extension(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("metadata", ctypes.POINTER(_Metadata)),
        ("_", _ROOM),
    ]


class _Api(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension_start", ctypes.c_void_p),
        ("version", _ApiVersion),
        ("internal", ctypes.c_void_p),
        ("create_error", _CREATE_ERROR),
        ("_", _ROOM),
    ]


class _CallFrame(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension_start", ctypes.POINTER(_Extension)),
        ("api", ctypes.POINTER(_Api)),
        ("_", _ROOM),
    ]


class _ErrorArgs(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("extension_start", ctypes.c_void_p),
        ("message", ctypes.c_char_p),
        ("code", ctypes.c_int),
    ]


def _version(pointer: int) -> Version:
    """The FFI version that the handler at this address reports when it is asked for its metadata."""
    said: list[str] = []

    def create_error(address: int) -> int:
        said.append((_ErrorArgs.from_address(address).message or b"").decode(errors="replace"))
        return 1  # any address but null: it is never read

    metadata = _Metadata(struct_size=ctypes.sizeof(_Metadata), version=_ApiVersion(major=-1, minor=-1))
    extension = _Extension(ctypes.sizeof(_Extension), _METADATA, None, ctypes.pointer(metadata))
    api = _Api(struct_size=ctypes.sizeof(_Api), create_error=_CREATE_ERROR(create_error))
    frame = _CallFrame(_FRAME_SIZE, ctypes.pointer(extension), ctypes.pointer(api))
    if _HANDLER(pointer)(ctypes.addressof(frame)):
        raise RuntimeError(f"the handler refuses to tell its FFI version: {''.join(said) or 'no reason given'}")
    if metadata.version.major < 0:
        raise RuntimeError("the handler does not tell its FFI version: it is no handler of XLA's typed FFI")
    return metadata.version.major, metadata.version.minor


def _pointer(capsule: object) -> int:
    """The address in a capsule of any name: each binding library uses its own name, and XLA accepts all."""
    if type(capsule).__name__ != "PyCapsule":
        raise TypeError(f"a handler must be a PyCapsule, or a dict of them by stage, got {capsule!r}")
    name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
    address = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return int(address(capsule, name(capsule)))
