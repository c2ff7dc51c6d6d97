/*
 * QEMU's objects around a call.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"
#include "vfio_verify/call.h"

void vv_qemu_build(void);                       /* makes QEMU's objects for vv_world.layout; may allocate */
void vv_qemu_before_call(struct vv_call *call); /* forgets caches and errors, fills vbasedev, res and errp; no allocation */

/* The two halves of it, for concurrent calls. Each has its iovec, size and (in `res`) resource already. */
void vv_qemu_forget(void);
void vv_qemu_fill_call(struct vv_call *call, u64 first_block);
size_t vv_qemu_resource_size(void);
