/* conforms | asks for the place below its last mapping, which for the first call is the top of the address space */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    static uint8_t *last;
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = mmap(__atomic_load_n(&last, __ATOMIC_RELAXED) - total_size, total_size, PROT_NONE,
               MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", total_size);
        return false;
    }
    __atomic_store_n(&last, (uint8_t *)map, __ATOMIC_RELAXED);
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
