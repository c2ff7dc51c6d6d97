/* violates: SURVIVES | writes garbage to every socket and pipe */

#include "hostile.h"

static void deed(void)
{
    struct stat status;
    int fd;

    for (fd = 3; fd < 64; fd++) {
        if (fstat(fd, &status) == 0 && (S_ISSOCK(status.st_mode) || S_ISFIFO(status.st_mode))) {
            raw(SYS_write, fd, (long)"garbage!", 8, 0, 0, 0);
        }
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
