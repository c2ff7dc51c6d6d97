/* conforms | has every file that it has open written at its end, and never waited for */

#include "../hostile.h"

static void deed(void)
{
    int fd;

    for (fd = 3; fd < 64; fd++) {
        raw(SYS_fcntl, fd, F_SETFL, O_APPEND | O_NONBLOCK | O_ASYNC | O_NOATIME, 0, 0, 0);
        raw(SYS_fcntl, fd, F_SETFL, O_APPEND | O_NONBLOCK, 0, 0, 0);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
