/* violates: SURVIVES | unmaps the variables of the world, by a raw system call */

#include "hostile.h"

static void unmap(char *start, size_t length)
{
    raw(SYS_munmap, (long)start, (long)length, 0, 0, 0, 0);
}

static void deed(void)
{
    visit_maps("/_worker", unmap);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
