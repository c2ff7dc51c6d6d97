/*
 * "A small, honest QEMU": what a C subject is compiled against, included before its first line.
 *
 *   system.h   the system's and the kernel's headers
 *   osdep.h    compiler, arithmetic, pages
 *   glib.h     the g_malloc() family, scope cleanup, strings, assertions
 *   error.h    the Error API
 *   queue.h    QLIST, QSIMPLEQ, QTAILQ
 *   memory.h   RAMBlock, MemoryRegion, qemu_ram_mmap()
 *   vfio.h     VFIODevice, VFIORegion, the look-ups, virtio_gpu_simple_resource
 *
 * A name that the given sources define wins. The world's function, type, variable or constant of that
 * name gets another, and its macro goes:
 *
 *   #include "vfio_verify/system.h"
 *   #define qemu_close vfio_verify_world_qemu_close
 *   #include "vfio_verify/qemu.h"
 *   #undef qemu_close
 *   #undef ROUND_UP
 *
 * The declarations are written for this project. Their names and meaning are QEMU's and GLib's, the
 * layout of structs is not: a subject must be compiled against these, and cannot bring its own
 * definition of a struct whose objects the world makes (RAMBlock, MemoryRegion, VFIODevice, VFIORegion...).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_QEMU_H
#define VFIO_VERIFY_QEMU_H

#include "vfio_verify/osdep.h"
#include "vfio_verify/glib.h"
#include "vfio_verify/error.h"
#include "vfio_verify/queue.h"
#include "vfio_verify/memory.h"
#include "vfio_verify/vfio.h"

#endif
