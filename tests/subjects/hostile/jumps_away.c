/* violates: SURVIVES | jumps to where no frame is */

#include "hostile.h"

static void deed(void)
{
    jmp_buf away;

    memset(away, 0x11, sizeof(away));
    longjmp(away, 1);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
