/* conforms | where an overlay is refused, all is given up and made again once, in another place */

#include "../broken/helper.h"

static void *attempt(struct iovec *iov, unsigned int iov_cnt, size_t size,
                     const DmabufSource *source, Error **errp)
{
    void *map = reserve(size, errp);

    if (map && !overlay_all(map, iov, iov_cnt, source, errp)) {
        munmap(map, size);
        map = NULL;
    }
    return map;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    Error *first = NULL;
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = attempt(iov, iov_cnt, total_size, &source, &first);
    if (!map) {
        error_free(first);
        map = attempt(iov, iov_cnt, total_size, &source, errp);
    }
    if (map) {
        *addr = map;
    }
    return map;
}
