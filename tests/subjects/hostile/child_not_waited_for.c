/* violates: NO_LEAK | leaves a child that has ended and was not waited for */
/* the sandbox refuses it */

#include "hostile.h"

static void deed(void)
{
    if (fork() == 0) {
        raw(SYS_exit_group, 0, 0, 0, 0, 0, 0);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
