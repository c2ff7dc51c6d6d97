/* violates: ACCEPTS_VALID, ACCEPTS_VALID | walks the list of devices by the links of a group; maps by the device's descriptor where regions have their own */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    VFIODevice *vbasedev, *found = NULL;
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    QLIST_FOREACH(vbasedev, &vfio_device_list, next) {
        if (vbasedev->dev == source.block->mr->dev) {
            found = vbasedev;
        }
    }
    if (!found) {
        error_setg(errp, "no device");
        return false;
    }
    source.fd = found->fd;
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
