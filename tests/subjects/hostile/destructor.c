/* conforms | has a destructor that would crash, and never runs */

#include "hostile.h"

static void deed(void)
{
}

__attribute__((destructor)) static void at_end(void)
{
    *(volatile int *)8 = 1;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    (void)at_end;
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
