/* violates: SURVIVES | forks where the check would fork it, and has the child do what may crash */
/* in a sequence that forks */

#include "../hostile.h"

static void deed(void)
{
    const long child = raw(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);

    if (child == 0) {
        *(volatile int *)NULL = 1;
    }
    raw(SYS_wait4, child, 0, 0, 0, 0, 0);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
