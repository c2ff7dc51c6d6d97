/* violates: ACCEPTS_VALID | refuses every list, which makes it conform to all else */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    error_setg(errp, "dmabuf of %u entries, %zu bytes at %p: not supported",
               iov_cnt, total_size, addr);
    return false;
}
