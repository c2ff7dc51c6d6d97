/* conforms | asks for an address of its own, without MAP_FIXED, and reserves anew where the kernel answers another one */

#include "../broken/helper.h"

#define FIRST 0x500000000000ul
#define APART (2ul << 20)

static void *reserve_at(char *wanted, size_t size, Error **errp)
{
    void *map = mmap(wanted, size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (map == wanted) {
        return map;
    }
    if (map != MAP_FAILED && munmap(map, size) < 0) {
        error_setg_errno(errp, errno, "cannot give back what is in another place");
        return NULL;
    }
    return reserve(size, errp);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    static unsigned long next = FIRST;
    DmabufSource source;
    char *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve_at((char *)__atomic_fetch_add(&next, (total_size + 2 * APART - 1) / APART * APART,
                                                __ATOMIC_RELAXED), total_size, errp);
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
