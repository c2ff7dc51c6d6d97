/* violates: NO_LEAK | closes the device's descriptor when it is done, as if it had been given one of its own */

#include "helper.h"
#include <unistd.h>

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (map && !overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        map = NULL;
    }
    close(source.fd);
    if (map) {
        *addr = map;
    }
    return map;
}
