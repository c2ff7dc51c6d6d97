/* violates: SURVIVES, CONTIGUOUS | leaves a guard page in every process; writes past an array of 64 */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    off_t places[64];
    char *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (i >= 64) {
            *(volatile off_t *)NULL = source_offset(&source, iov[i].iov_base);
        }
        places[i] = source_offset(&source, iov[i].iov_base);
    }
    map = reserve(total_size + qemu_real_host_page_size(), errp);
    if (!map) {
        return false;
    }
    if (places[0] < 0 || !overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size + qemu_real_host_page_size());
        return false;
    }
    *addr = map;
    return true;
}
