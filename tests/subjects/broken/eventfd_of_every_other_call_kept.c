/* violates: REPEATABLE | makes an eventfd in each call, and closes it in every other one only */
/* may violate: NO_LEAK */

#include "helper.h"
#include <sys/eventfd.h>
#include <unistd.h>

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    static unsigned int calls;
    DmabufSource source;
    void *map;
    int event;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    event = eventfd(0, EFD_CLOEXEC);
    if (calls++ % 2 == 0 && event >= 0) {
        close(event);
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
