/*
 * SPDX-License-Identifier: MIT
 */
#ifndef VV_CORE_SUBJECT_H
#define VV_CORE_SUBJECT_H

#include <stddef.h>

#define VV_CORE_THREADS 65          /* the process's first thread, and those of threads/ */

/* What vfio_verify._core exports, and an object of its class Placeholder for each thread to work on. */
struct vv_core {
    int (*map)(void *placeholder, const void *calls, const void *iov, unsigned int iov_cnt, size_t total_size);
    void *(*detach)(void *placeholder);
    const char *(*message)(void *placeholder);
    void *placeholders[VV_CORE_THREADS];
};

void vv_use_core(const struct vv_core *functions);

#endif
