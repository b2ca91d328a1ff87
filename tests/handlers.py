"""XLA FFI handlers made in Python: they answer what they are asked for, and compute nothing."""

import ctypes
import functools

import jax

from ev3x import ffi

_alive: list[object] = []  # XLA and capsules keep addresses, not objects


@functools.cache  # XLA takes a handler again under the same name, but no other one
def handler(major, minor, error=None):
    """A capsule whose handler says that it was built with this FFI version, or refuses with this error."""

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def answer(address):
        frame = ffi._CallFrame.from_address(address)
        if error is not None:
            text = ffi._ErrorArgs(struct_size=ctypes.sizeof(ffi._ErrorArgs), message=error)
            return frame.api.contents.create_error(ctypes.addressof(text))
        version = frame.extension_start.contents.metadata.contents.version
        version.major, version.minor = major, minor
        return None

    _alive.append(answer)
    return jax.ffi.pycapsule(answer)
