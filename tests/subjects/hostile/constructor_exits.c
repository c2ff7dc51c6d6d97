/* is not loaded: exit with status 0 | has a constructor that ends the process */

#include "hostile.h"

static void deed(void)
{
}

__attribute__((constructor)) static void at_load(void)
{
    raw(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    (void)at_load;
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
