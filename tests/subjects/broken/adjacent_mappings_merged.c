/* violates: REPEATABLE | asks for the place below the last mapping and takes both for one: when an overlay fails it unmaps both */
/* may violate: CONFINED, UNMAP_ON_ERROR */

#include "helper.h"

static uint8_t *joint;
static size_t joint_size;

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    uint8_t *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    /* A hint: the kernel goes elsewhere where something is there already. */
    map = mmap(joint - total_size, total_size, PROT_NONE,
               MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", total_size);
        return false;
    }
    joint_size = map + total_size == joint ? total_size + joint_size
                                           : total_size;
    joint = map;
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(joint, joint_size);
        joint = NULL;
        return false;
    }
    *addr = map;
    return true;
}
