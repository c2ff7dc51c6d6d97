/* violates: NO_LEAK | closes its duplicate by closefrom(), and with it all that were opened later */

#include "helper.h"
#include <unistd.h>

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;
    int own;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    own = dup(source.fd);
    if (own < 0) {
        error_setg_errno(errp, errno, "cannot duplicate the descriptor");
        return false;
    }
    source.fd = own;
    map = reserve(total_size, errp);
    if (map && !overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        map = NULL;
    }
    closefrom(own - 1);
    if (map) {
        *addr = map;
    }
    return map;
}
