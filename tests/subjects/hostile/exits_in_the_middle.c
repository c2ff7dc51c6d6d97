/* violates: SURVIVES | calls _exit(0) */

#include "hostile.h"

static void deed(void)
{
    _exit(0);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
