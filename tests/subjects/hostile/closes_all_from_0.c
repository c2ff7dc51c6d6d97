/* violates: SURVIVES | closes every descriptor, standard ones too, one by one, by raw system calls */

#include "hostile.h"

static void deed(void)
{
    int fd;

    for (fd = 0; fd < 1024; fd++) {
        raw(SYS_close, fd, 0, 0, 0, 0, 0);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
