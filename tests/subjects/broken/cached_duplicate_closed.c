/* violates: REPEATABLE, NO_LEAK | keeps a duplicate of the descriptor for all calls, and closes it when one fails: later calls map by a closed one */
/* may violate: ACCEPTS_VALID, CONTENTS, CONFINED, CONTIGUOUS */

#include "helper.h"
#include <unistd.h>

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    static int fd = -1, duplicate_of = -1;
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    if (fd < 0 || duplicate_of != source.fd) {
        if (fd >= 0) {
            close(fd);
        }
        duplicate_of = source.fd;
        fd = dup(source.fd);
    }
    if (fd < 0) {
        error_setg_errno(errp, errno, "cannot duplicate the descriptor");
        return false;
    }
    source.fd = fd;
    map = reserve(total_size, errp);
    if (!map || !overlay_all(map, iov, iov_cnt, &source, errp)) {
        if (map) {
            munmap(map, total_size);
        }
        close(fd);
        return false;
    }
    *addr = map;
    return true;
}
