/* conforms | cuts off every file that it has open, and makes each one longer */

#include "../hostile.h"

static void deed(void)
{
    int fd;

    for (fd = 3; fd < 64; fd++) {
        raw(SYS_ftruncate, fd, 0, 0, 0, 0, 0);
        raw(SYS_ftruncate, fd, 1l << 61, 0, 0, 0, 0);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
