/* conforms | asks for an address at a round place, and for any where that one is refused */

#include "../broken/helper.h"

#define ROUND_PLACE ((void *)(UINT64_C(5) << 44))

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    const int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = mmap(ROUND_PLACE, total_size, PROT_NONE, flags, -1, 0);
    if (map == MAP_FAILED) {
        map = mmap(NULL, total_size, PROT_NONE, flags, -1, 0);
        if (map == MAP_FAILED) {
            error_setg_errno(errp, errno, "no place for %zu bytes", total_size);
            return false;
        }
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
