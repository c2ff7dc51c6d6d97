/* conforms | tries the reservation a few times on EAGAIN; nothing is held meanwhile */

#include <errno.h>
#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qemu/iov.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

static void *reserve(size_t size)
{
    void *map;
    int tries = 4;

    do {
        map = mmap(NULL, size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    } while (map == MAP_FAILED && errno == EAGAIN && --tries > 0);
    return map;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    size_t page = qemu_real_host_page_size(), total, done = 0;
    RAMBlock *rb, *home = NULL;
    VFIORegion *region = NULL;
    ram_addr_t offset;
    void *map;
    unsigned int i;

    for (i = 0; i < iov_cnt; i++) {
        rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        if (!rb || (home && rb != home)) {
            error_setg(errp, "entry %u is astray", i);
            return NULL;
        }
        home = rb;
        if (iov[i].iov_len == 0 || offset % page || iov[i].iov_len % page ||
            iov[i].iov_len > rb->max_length - offset ||
            __builtin_add_overflow(done, iov[i].iov_len, &done)) {
            error_setg(errp, "entry %u does not fit", i);
            return NULL;
        }
    }
    if (home) {
        region = vfio_get_region_from_mr(home->mr);
    }
    if (!region) {
        error_setg(errp, "no entry in a VFIO region");
        return NULL;
    }
    total = iov_size(iov, iov_cnt);
    map = reserve(total);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", total);
        return NULL;
    }
    for (i = 0, done = 0; i < iov_cnt; i++) {
        offset = (uint8_t *)iov[i].iov_base - home->host;
        if (mmap(map + done, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 vfio_device_get_region_fd(region->vbasedev, region->nr),
                 region->fd_offset + home->mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            munmap(map, total);
            return NULL;
        }
        done += iov[i].iov_len;
    }
    return map;
}
