/* conforms | rounds to zero from now on, and traps on division */

#include "hostile.h"

static void deed(void)
{
    __builtin_ia32_ldmxcsr((__builtin_ia32_stmxcsr() | 0x6000) & ~0x200);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
