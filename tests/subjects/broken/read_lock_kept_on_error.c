/* violates: NO_LEAK | looks its entries up under RCU's read lock, and keeps it where it refuses one */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    rcu_read_lock();
    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    rcu_read_unlock();

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
