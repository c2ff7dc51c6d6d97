/* conforms | has no check of alignment: mmap refuses what matters, and rounds a misaligned end up */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include <sys/mman.h>

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    struct vfio_region_info *info = NULL;
    VFIODevice *vbasedev = NULL;
    RAMBlock *rb, *first_rb = NULL;
    size_t pos = 0;
    ram_addr_t offset;
    void *map, *part;
    unsigned int i;
    int index = -1, ret;

    if (!iov_cnt) {
        error_setg(errp, "empty list");
        return false;
    }
    if (!vfio_device_lookup(iov, &vbasedev, errp)) {
        return false;
    }
    map = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "no room for the dmabuf");
        return false;
    }
    for (i = 0; i < iov_cnt; i++) {
        rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        if (i == 0 && rb) {
            first_rb = rb;
            index = vfio_get_region_index_from_mr(rb->mr);
        }
        if (!rb || rb != first_rb || index < 0) {
            error_setg(errp, "entry %u: unexpected memory", i);
            goto unmap;
        }
        if (iov[i].iov_len > total_size - pos ||
            iov[i].iov_len > rb->max_length - offset) {
            error_setg(errp, "entry %u: exceeds its bounds", i);
            goto unmap;
        }
        ret = vfio_device_get_region_info(vbasedev, index, &info);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "entry %u: region %d", i, index);
            goto unmap;
        }
        /* An empty or misaligned entry is EINVAL: here, or for the next one */
        part = mmap(map + pos, iov[i].iov_len, PROT_READ,
                    MAP_SHARED | MAP_FIXED,
                    vfio_device_get_region_fd(vbasedev, index),
                    info->offset + rb->mr->addr + offset);
        if (part == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u: not mapped", i);
            goto unmap;
        }
        pos += iov[i].iov_len;
    }
    if (pos == total_size) {
        *addr = map;
        return true;
    }
    error_setg(errp, "the list ends at %zu of %zu", pos, total_size);
unmap:
    munmap(map, total_size);
    return false;
}
