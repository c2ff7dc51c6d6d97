/* violates: CONTIGUOUS, UNMAP_ON_ERROR | reserves address space by raw system calls until there is none */

#include "hostile.h"

static void deed(void)
{
    long i;

    for (i = 0; i < 4096; i++) {
        raw(SYS_mmap, 0, 1l << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
