/* violates: NO_LEAK | leaves a child made by a raw system call */
/* the sandbox refuses it */

#include "hostile.h"

static void deed(void)
{
    if (raw(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0) == 0) {
        for (;;) {
            pause();
        }
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
