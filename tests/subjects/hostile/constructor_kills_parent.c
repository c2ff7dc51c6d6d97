/* is not loaded: the process that started it is ended | has a constructor that kills the parent */
/* the sandbox refuses it */

#include "hostile.h"

static void deed(void)
{
}

__attribute__((constructor)) static void at_load(void)
{
    kill(getppid(), SIGKILL);
    pause();
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    (void)at_load;
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
