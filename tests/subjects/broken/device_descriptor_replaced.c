/* violates: NO_LEAK | opens the device's descriptor anew and puts it in place of the old one by dup2() */

#include "helper.h"
#include <fcntl.h>
#include <unistd.h>

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;
    int fresh;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    fresh = fcntl(source.fd, F_DUPFD_CLOEXEC, 0);
    if (fresh >= 0) {
        dup2(fresh, source.fd);
        close(fresh);
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
