/*
 * What confines a worker, before it loads its subject.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VV_CONFINE_H
#define VV_CONFINE_H

#include "base/types.h"

/* class SandboxFeature of vfio_verify/worker/sandbox.py has the same. A part left out is told as one that the kernel
 * lacks. */
enum vv_confine_parts {
    VV_LANDLOCK = 1,            /* which files can be opened */
    VV_SECCOMP = 2,             /* which system calls can be made */
    VV_LIMITS = 4,              /* resource limits, no new privileges, no capabilities */
};

/* Once a process tree: the parts to use, then each file or directory that a subject may read. Paths that
 * are not there are passed over. 0, or -1 with errno. */
void vv_confine_with(u64 parts);
int vv_confine_allow(const char *path);

/* Confine this process for good. Returns what is in force: Landlock's version in bits 0 to 15, the errno for
 * which it is missing in bits 16 to 31, the errno for which seccomp is missing in bits 32 to 47, and above that the one
 * for which nobody answers for forks. `overseer`: where the parent takes over what it needs to answer (oversee.h). */
int64_t vv_confine(int overseer);

#endif
