/* violates: CONFINED | where the kernel does not follow a hint, works at the address it asked for, not at the one it got */
/* may violate: UNMAP_ON_ERROR, CONTIGUOUS, CONTENTS, READ_ONLY */

#include "helper.h"

#define FIRST 0x500000000000ul
#define APART (2ul << 20)

/* An address that nothing else asks for. */
static char *place_for(size_t size)
{
    static unsigned long next = FIRST;
    const unsigned long bytes = (size + 2 * APART - 1) / APART * APART;

    return (char *)__atomic_fetch_add(&next, bytes, __ATOMIC_RELAXED);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    char *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = place_for(total_size);
    if (mmap(map, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
             -1, 0) == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", total_size);
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
