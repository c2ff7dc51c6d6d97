/* conforms | asks for the size of a page once, and remembers it: it is the same as long as the process lives */

#include "../broken/helper.h"

static size_t page;

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    char *map;

    if (!page) {
        page = getpagesize();
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (iov[i].iov_len % page || (uintptr_t)iov[i].iov_base % page) {
            error_setg(errp, "entry %u is not of whole pages", i);
            return false;
        }
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
