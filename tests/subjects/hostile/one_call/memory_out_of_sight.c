/* violates: SURVIVES | fills memfds, maps each and closes it, so that no table of its process tells of them */

#include "../hostile.h"

static void deed(void)
{
    static char part[1 << 20];
    int i, j, fd;

    for (i = 0; i < 64; i++) {
        fd = (int)raw(SYS_memfd_create, (long)"x", 0, 0, 0, 0, 0);
        for (j = 0; j < 64; j++) {
            raw(SYS_write, fd, (long)part, sizeof(part), 0, 0, 0);
        }
        raw(SYS_mmap, 0, 64 << 20, PROT_READ, MAP_SHARED, fd, 0);
        raw(SYS_close, fd, 0, 0, 0, 0, 0);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
