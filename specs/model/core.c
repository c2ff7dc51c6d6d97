/*
 * The core as a subject: the C that Cython makes of pyx/_core.pyx, of which the extension module was compiled, and its
 * entry. Its system calls and look-ups are the model's.
 *
 * SPDX-License-Identifier: MIT
 */
#include <sys/mman.h>       /* before Python's own settings, by which mmap() would be called by another name */

#define PyMODINIT_FUNC static PyObject *        /* what only Python calls is dropped */
#include "_core.c"

#include "vfio_verify/call.h"
#include "vfio_verify/qemu.h"
#include "core.h"

#define PAGE 4096
#define CORE(name) __pyx_f_11vfio_verify_5_core_core_##name

/* As Python makes it. What it keeps from one call to the next, it keeps here. */
static struct __pyx_obj_11vfio_verify_5_core_Placeholder placeholder = {.segment = -1, .page_size = PAGE};

static int resolve(void *context, uintptr_t address, struct core_block *block)
{
    struct vm_device_memory found = {0};
    const int error = vm_find_device_memory(address, &found);

    (void)context;
    if (error == 0) {
        *block = (struct core_block){.host = found.host, .length = found.size, .fd = found.fd,
                                     .file_offset = found.offset, .id = found.block};
    }
    return error;
}

void vfio_verify_entry(struct vv_call *call)
{
    const struct core_calls calls = {.mmap = mmap, .munmap = munmap, .resolve = resolve, .page_size = PAGE};
    PyObject *self = (PyObject *)&placeholder;

    if (CORE(map)(self, &calls, call->iov, call->iov_cnt, call->total_size) == 0) {
        call->mapped = 1;
        call->address = CORE(detach)(self);
    } else {
        error_setg(call->errp, "%s", CORE(message)(self));
        CORE(detach)(self);             /* what a failed munmap left is the caller's to release */
    }
}
