/* violates: ACCEPTS_VALID | only when the descriptor is open for reading alone: it is asked for more than the mappings need */

#include <fcntl.h>
#include "helper.h"

static bool check_access(int fd, Error **errp)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0) {
        error_setg_errno(errp, errno, "no flags of descriptor %d", fd);
        return false;
    }
    if ((flags & O_ACCMODE) != O_RDWR) {
        error_setg(errp, "descriptor %d is not open for reading and writing",
                   fd);
        return false;
    }
    return true;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp) ||
        !check_access(source.fd, errp)) {
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
