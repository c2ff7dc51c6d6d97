/* is not loaded: ends its process | has a constructor that closes every descriptor */

#include "hostile.h"

static void deed(void)
{
}

__attribute__((constructor)) static void at_load(void)
{
    raw(SYS_close_range, 3, ~0u, 0, 0, 0, 0);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    (void)at_load;
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
