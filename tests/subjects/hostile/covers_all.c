/* violates: SURVIVES | puts /dev/null over every descriptor by raw system calls */

#include "hostile.h"

static void deed(void)
{
    int fd, null = (int)raw(SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDWR, 0, 0, 0);

    for (fd = 3; fd < 64; fd++) {
        if (fd != null) {
            raw(SYS_dup3, null, fd, 0, 0, 0, 0);
        }
    }
    raw(SYS_close, null, 0, 0, 0, 0, 0);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
