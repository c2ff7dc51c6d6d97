/* conforms | asks for a place beside the last mapping, by a hint that the kernel may ignore, and counts its calls */

#include <errno.h>
#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

static uintptr_t last_end;      /* may be stale: the caller ends mappings without a word */
static unsigned long calls, failures;

static RAMBlock *common_block(const struct iovec *iov, unsigned int iov_cnt,
                              size_t size, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    RAMBlock *common = NULL;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        ram_addr_t offset;
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);

        if (!rb || (common && rb != common)) {
            error_setg(errp, "entry %u leaves the block", i);
            return NULL;
        }
        if (!iov[i].iov_len || (iov[i].iov_len | offset) % page ||
            iov[i].iov_len > rb->max_length - offset || iov[i].iov_len > size) {
            error_setg(errp, "entry %u has an odd place or length", i);
            return NULL;
        }
        size -= iov[i].iov_len;
        common = rb;
    }
    if (!common || size) {
        error_setg(errp, "the entries do not make up the dmabuf");
        return NULL;
    }
    return common;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    RAMBlock *rb = common_block(iov, iov_cnt, total_size, errp);
    VFIORegion *region = rb ? vfio_get_region_from_mr(rb->mr) : NULL;
    void *hint = (void *)__atomic_load_n(&last_end, __ATOMIC_RELAXED);
    uint8_t *map, *at;
    int fd;

    __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    if (!region) {
        if (rb) {
            error_setg(errp, "block %s is not a device's", rb->idstr);
        }
        __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
        return false;
    }
    fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    map = mmap(hint, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "no room for %zu bytes", total_size);
        __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
        return false;
    }
    at = map;
    for (unsigned int i = 0; i < iov_cnt; i++) {
        off_t offset = (uint8_t *)iov[i].iov_base - rb->host;

        if (mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 region->fd_offset + rb->mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u after %lu calls, %lu failed",
                             i, calls, failures);
            munmap(map, total_size);
            __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
            return false;
        }
        at += iov[i].iov_len;
    }
    __atomic_store_n(&last_end, (uintptr_t)at, __ATOMIC_RELAXED);
    *addr = map;
    return true;
}
