/* is not loaded: does not return | has a constructor that stops the process */

#include "hostile.h"

static void deed(void)
{
}

__attribute__((constructor)) static void at_load(void)
{
    raise(SIGSTOP);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    (void)at_load;
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
