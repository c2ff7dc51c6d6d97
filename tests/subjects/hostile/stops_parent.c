/* violates: SURVIVES | stops the process that started it, and waits a while */
/* the sandbox refuses it */

#include "hostile.h"

static void deed(void)
{
    kill(getppid(), SIGSTOP);
    usleep(250000);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
