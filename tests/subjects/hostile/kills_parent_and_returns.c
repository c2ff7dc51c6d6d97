/* violates: SURVIVES | kills the process that started it, by a raw system call, and goes on */
/* the sandbox refuses it */

#include "hostile.h"

static void deed(void)
{
    raw(SYS_kill, getppid(), SIGKILL, 0, 0, 0, 0);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
