/*
 * What a broken subject does right. Each file spells out the step that it gets wrong and takes the
 * others from here. No function here has the type of a subject.
 */
#ifndef SUBJECTS_HELPER_H
#define SUBJECTS_HELPER_H

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"
#include <sys/mman.h>

typedef struct DmabufSource {
    RAMBlock *block;    /* holds every entry */
    int fd;             /* what the block's memory is mapped from */
    off_t start;        /* of the block within fd */
} DmabufSource;

/* NULL with an error set, unless the entry is made of whole pages of one RAMBlock. */
static inline RAMBlock *check_entry(const struct iovec *entry, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    ram_addr_t offset;
    RAMBlock *block = qemu_ram_block_from_host(entry->iov_base, false, &offset);

    if (!block) {
        error_setg(errp, "no RAM block holds %p", entry->iov_base);
        return NULL;
    }
    if (entry->iov_len == 0 || entry->iov_len % page || offset % page) {
        error_setg(errp, "%p is not the start of whole pages", entry->iov_base);
        return NULL;
    }
    if (entry->iov_len > block->max_length - offset) {
        error_setg(errp, "%p runs past its RAM block", entry->iov_base);
        return NULL;
    }
    return block;
}

/* All entries are valid and of one block; *sum is what their lengths add up to. */
static inline bool check_entries(const struct iovec *iov, unsigned int iov_cnt,
                                 RAMBlock **block, size_t *sum, Error **errp)
{
    *sum = 0;
    *block = NULL;
    for (unsigned int i = 0; i < iov_cnt; i++) {
        RAMBlock *rb = check_entry(&iov[i], errp);

        if (!rb) {
            return false;
        }
        if (i > 0 && rb != *block) {
            error_setg(errp, "entry %u is of another RAM block", i);
            return false;
        }
        *block = rb;
        if (__builtin_add_overflow(*sum, iov[i].iov_len, sum)) {
            error_setg(errp, "the lengths overflow at entry %u", i);
            return false;
        }
    }
    if (iov_cnt == 0) {
        error_setg(errp, "no entries");
    }
    return iov_cnt > 0;
}

static inline bool check_size(size_t sum, size_t total_size, Error **errp)
{
    if (sum != total_size) {
        error_setg(errp, "entries have %zu bytes, not %zu", sum, total_size);
    }
    return sum == total_size;
}

static inline bool find_source(RAMBlock *block, DmabufSource *source,
                               Error **errp)
{
    VFIORegion *region = vfio_get_region_from_mr(block->mr);

    if (!region) {
        error_setg(errp, "not the memory of a VFIO region");
        return false;
    }
    source->block = block;
    source->fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    source->start = region->fd_offset + block->mr->addr;
    if (source->fd < 0) {
        error_setg(errp, "no descriptor for region %d", region->nr);
        return false;
    }
    return true;
}

/* Everything that can be refused before an address is reserved. */
static inline bool prepare(const struct iovec *iov, unsigned int iov_cnt,
                           size_t total_size, DmabufSource *source,
                           Error **errp)
{
    RAMBlock *block;
    size_t sum;

    return check_entries(iov, iov_cnt, &block, &sum, errp) &&
           check_size(sum, total_size, errp) &&
           find_source(block, source, errp);
}

/* The same, where the size follows from the entries. */
static inline bool prepare_sum(const struct iovec *iov, unsigned int iov_cnt,
                               size_t *sum, DmabufSource *source, Error **errp)
{
    RAMBlock *block;

    return check_entries(iov, iov_cnt, &block, sum, errp) &&
           find_source(block, source, errp);
}

/* NULL with an error set when there is no room. */
static inline void *reserve(size_t size, Error **errp)
{
    void *map = mmap(NULL, size, PROT_NONE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", size);
        return NULL;
    }
    return map;
}

static inline off_t source_offset(const DmabufSource *source, const void *host)
{
    return source->start + ((const uint8_t *)host - source->block->host);
}

static inline bool overlay(void *at, size_t len, const DmabufSource *source,
                           const void *host, Error **errp)
{
    if (mmap(at, len, PROT_READ, MAP_SHARED | MAP_FIXED, source->fd,
             source_offset(source, host)) == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot map %zu bytes", len);
        return false;
    }
    return true;
}

/* Lays all entries from @map on. On failure what is mapped is left to the caller. */
static inline bool overlay_all(void *map, const struct iovec *iov,
                               unsigned int iov_cnt,
                               const DmabufSource *source, Error **errp)
{
    char *at = map;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (!overlay(at, iov[i].iov_len, source, iov[i].iov_base, errp)) {
            return false;
        }
        at += iov[i].iov_len;
    }
    return true;
}

#endif
