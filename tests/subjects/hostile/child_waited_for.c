/* conforms | has a child do something, and waits for it */

#include "hostile.h"

static void deed(void)
{
    pid_t child = fork();

    if (child == 0) {
        raw(SYS_exit_group, 0, 0, 0, 0, 0, 0);
    }
    waitpid(child, NULL, 0);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
