/* violates: CONFINED | makes its own code writable by a raw system call, and leaves it so */

#include "hostile.h"

static void deed(void)
{
    raw(SYS_mprotect, (long)&raw & ~4095l, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, 0, 0, 0);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
