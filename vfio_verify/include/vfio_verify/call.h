/*
 * One call of a subject, as the world makes it: what the entry compiled beside the subject
 * receives, and where it leaves what the subject answered.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_CALL_H
#define VFIO_VERIFY_CALL_H

#include <stddef.h>
#include <sys/uio.h>

#include "vfio_verify.h"

struct Error;
struct VFIODevice;
struct virtio_gpu_simple_resource;

struct vv_call {
    /* what the subject is given */
    struct iovec *iov;                        /* ends where an unreadable page begins */
    unsigned int iov_cnt;
    size_t total_size;                        /* bytes */
    struct Error **errp;                      /* NULL, or points to NULL */
    struct VFIODevice *vbasedev;              /* the device of the first segment, NULL if none */
    struct virtio_gpu_simple_resource *res;   /* the same iovec and size, as virtio-gpu holds them */
    void *context;                            /* for entries that need an object of their own */

    /* what the subject answered, filled in by the entry */
    int mapped;                               /* did it claim success? */
    void *address;                            /* where, if it did */
};

/* For a subject that takes segments: the function that it is, called with those of the call's iovec. */
typedef int vfio_verify_function(const struct vfio_verify_segment *, unsigned int, size_t, void **);
void vv_map_segments(struct vv_call *call, vfio_verify_function *map);

/* The entry: it calls the subject, and the world finds it by this name. */
void vfio_verify_entry(struct vv_call *call);

#endif
