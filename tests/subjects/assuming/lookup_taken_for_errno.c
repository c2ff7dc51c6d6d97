/* assuming vfio_device_lookup=0 conforms | takes the look-up's true for an error; behind that, it is right */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    VFIODevice *vbasedev = NULL;
    DmabufSource source;
    void *map;

    if (iov_cnt == 0) {
        error_setg(errp, "no entries");
        return false;
    }
    if (vfio_device_lookup(iov, &vbasedev, errp) != 0) {
        if (errp && !*errp) {
            error_setg(errp, "no device has %p", iov->iov_base);
        }
        return false;
    }
    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
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
