/* violates: SURVIVES | stops the process that started it, and then waits a while */
/* the sandbox refuses it */

#include "hostile.h"

static void deed(void)
{
    if (kill(getppid(), SIGSTOP) == 0) {
        usleep(250000);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
