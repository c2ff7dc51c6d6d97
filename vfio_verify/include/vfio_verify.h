/*
 * The interface of an adapter: a function in C by which a helper is called that is not QEMU's, such as one in a shared
 * library. Nothing of QEMU is needed.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_H
#define VFIO_VERIFY_H

#include <stddef.h>
#include <stdint.h>

/* An entry of the iovec, and the memory behind it. */
struct vfio_verify_segment {
    void *base;                 /* where it begins in guest memory, as this process has it mapped */
    size_t length;              /* bytes */
    int fd;                     /* mmap() maps the device's memory through it; -1: it is no memory of a device */
    uint64_t offset;            /* the offset of `base` in fd, in bytes */
    size_t available;           /* bytes from `base` to the end of its block of guest memory */
    uint32_t device;            /* the first one has number 0 */
    uint32_t region;            /* of the device, by its index in VFIO */
    uint32_t block;             /* of guest memory; each has a number of its own */
};
/* Where fd is -1, all below it is 0. */

/*
 * The function that an adapter defines. Its name is the adapter's to choose; it is found by its types.
 *
 *   int vfio_verify_map(const struct vfio_verify_segment *segments, unsigned int n,
 *                       size_t total_size, void **address);
 *
 * It maps n segments one after another, and returns 0 with where that is in *address; or it returns an errno, and
 * leaves nothing mapped. total_size is what the caller says that the lengths add up to. Segments are as the guest gives
 * them, and may be wrong in any way. They are valid until the function returns.
 */

#endif
