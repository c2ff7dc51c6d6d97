/* conforms | each entry is mapped by a duplicate of its own, closed at once; where none can be had, by the original */

#include "../broken/helper.h"
#include <fcntl.h>
#include <unistd.h>

static bool overlay_by_duplicate(void *at, const struct iovec *entry,
                                 DmabufSource source, Error **errp)
{
    const int own = fcntl(source.fd, F_DUPFD_CLOEXEC, 0);
    bool ok;

    if (own >= 0) {
        source.fd = own;
    }
    ok = overlay(at, entry->iov_len, &source, entry->iov_base, errp);
    if (own >= 0) {
        close(own);
    }
    return ok;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    uint8_t *map, *at;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = at = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; at += iov[i++].iov_len) {
        if (!overlay_by_duplicate(at, &iov[i], source, errp)) {
            munmap(map, total_size);
            return false;
        }
    }
    *addr = map;
    return true;
}
