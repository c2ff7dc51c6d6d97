/*
 * What the core asks of its surroundings, as a table of functions. The library's own table is
 * made of libc's calls; the world's table counts, records and fails them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_CORE_CALLS_H
#define VFIO_VERIFY_CORE_CALLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A RAMBlock as the core needs it: where it is mapped, and which memory that is. */
struct core_block {
    uintptr_t host;         /* first address */
    uint64_t length;        /* bytes */
    int fd;                 /* descriptor of the device whose memory it is */
    uint64_t file_offset;   /* of the block's first byte, in that descriptor */
    uint64_t id;            /* equal for two look-ups if and only if it is the same block */
};

struct core_calls {
    void *(*mmap)(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
    int (*munmap)(void *addr, size_t length);
    /* The block that holds an address: 0 and *block filled, or an errno (EFAULT: no block there). */
    int (*resolve)(void *context, uintptr_t address, struct core_block *block);
    void *context;
    size_t page_size;       /* of the surroundings; 0: this machine's */
};

#endif
