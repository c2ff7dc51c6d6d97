/* conforms | makes its own code writable for a moment, by raw system calls */

#include "hostile.h"

static void deed(void)
{
    const long page = (long)&raw & ~4095l;

    raw(SYS_mprotect, page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, 0, 0, 0);
    raw(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC, 0, 0, 0);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
