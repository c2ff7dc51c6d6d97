/* violates: NO_LEAK | drops its reference to the device where an overlay fails, and once more at the end of every call */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    Object *owner;
    bool ok = false;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    owner = object_ref(memory_region_owner(source.block->mr));
    map = reserve(total_size, errp);
    if (!map) {
        goto out;
    }
    ok = overlay_all(map, iov, iov_cnt, &source, errp);
    if (ok) {
        *addr = map;
    } else {
        munmap(map, total_size);
        object_unref(owner);
    }
out:
    object_unref(owner);
    return ok;
}
