"""The core's C functions, as other extension modules get them."""

from __future__ import annotations

import ctypes
from typing import Any

from vfio_verify import _core


def core_function(name: str, result: Any, *arguments: Any) -> Any:
    capsule = _core.__pyx_capi__[name]
    get_name, get_pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(result, *arguments)(get_pointer(capsule, get_name(capsule)))
