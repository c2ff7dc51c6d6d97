/* violates: NO_LEAK | allocates until there is no memory */

#include "hostile.h"

static void deed(void)
{
    while (malloc(1 << 20)) {
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
